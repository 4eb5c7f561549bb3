from httpx2 import AsyncClient


async def test_list_what_is_in_stock(client: AsyncClient) -> None:
    listed = await client.get("/products")

    assert [product["sku"] for product in listed.json()] == ["rice", "tea"]


async def test_show_a_product(client: AsyncClient) -> None:
    shown = await client.get("/products/tea")

    assert shown.json() == {"sku": "tea", "price": 450, "in_stock": 10}
