from httpx2 import AsyncClient

ORDER = {"customer": "ann", "lines": [{"sku": "tea", "count": 2}, {"sku": "rice", "count": 1}]}


async def test_place_and_show_an_order(client: AsyncClient) -> None:
    placed = await client.post("/orders", json=ORDER)
    shown = await client.get(placed.headers["location"])

    assert placed.status_code == 201
    assert shown.json()["total"] == 2 * 450 + 320


async def test_refuse_what_is_sold_out(client: AsyncClient) -> None:
    await client.post("/orders", json=ORDER)
    second = await client.post("/orders", json=ORDER)

    assert second.status_code == 409


async def test_pay_once(client: AsyncClient) -> None:
    placed = await client.post("/orders", json=ORDER)
    payment = f"{placed.headers['location']}/payment"
    paid = await client.post(payment, json={"card": "4000123412341234"})
    again = await client.post(payment, json={"card": "4000123412341234"})

    assert (paid.status_code, paid.json()["card_end"]) == (201, "1234")
    assert again.status_code == 409


async def test_refuse_an_unknown_order(client: AsyncClient) -> None:
    unknown = await client.get("/orders/404")

    assert unknown.status_code == 404
