"""Checks of pydantic-schemas: what may come in, what is stored, and what goes out."""

from datetime import datetime
from typing import Any

ANN = {"email": "ann@shop.example", "name": "Ann"}
NOON = "2026-03-01T12:00:00Z"
LINE = {"sku": "TEA-0001", "quantity": 2}
ORDER = {"deliver_at": NOON, "lines": [LINE]}
GIFT = '{"to": "Bob", "text": "Enjoy!"}'


def seen(reply: Any, *fields: str) -> Any:
    """These fields of a good reply, the whole one where none is named; else its status."""
    if not reply.is_success:
        return reply.status_code
    body = reply.json()
    if not fields:
        return body
    return {field: body.get(field, "missing") for field in fields}


def person(reply: Any) -> Any:
    """The name and the phone of a good reply, else its status."""
    return "{name} {phone}".format(**reply.json()) if reply.is_success else reply.status_code


async def ann(app: Any, db: Any) -> str:
    """The path of a customer who is there already."""
    customer = app.Customer(**ANN, phone="+4930123456")
    await db.add(customer)
    return f"/customers/{customer.id}"


async def schema(client: Any, method: str, path: str, *, of: str) -> dict[str, Any]:
    """The OpenAPI schema of a body or a reply: what clients are generated from."""
    document = (await client.get("/openapi.json")).json()
    route = document["paths"][path][method]
    part = route["requestBody"] if of == "body" else route["responses"][of]
    found = part["content"]["application/json"]["schema"]
    return document["components"]["schemas"][found["$ref"].split("/")[-1]] if found else {}


async def test_separate_input_from_output(app, client, db):
    """A client sets no balance; a customer of former years can be read."""
    old = {"email": "old@shop.example", "name": "Olga", "phone": "030 / 123456 (ask Bob)"}
    await db.add(olga := app.Customer(**old, balance=500))

    registered, _greedy, _greedy_patch = (
        await client.post("/customers", json=ANN),
        await client.post("/customers", json=ANN | {"email": "eve@shop.example", "balance": 9000}),
        await client.patch(f"/customers/{olga.id}", json={"balance": 9000}),
    )

    assert {
        "registered": seen(registered, "name", "balance"),
        "balances": sorted({customer.balance for customer in await db.rows(app.Customer)}),
    } == {"registered": {"name": "Ann", "balance": 0}, "balances": [0, 500]}, (
        "the balances should be the shop's: 500 for Olga, 0 for who is new"
    )

    found = await client.get("/customers", params={"email": old["email"]})

    assert seen(found, "phone", "balance") == {"phone": old["phone"], "balance": 500}, (
        "the reply for a phone from former years"
    )


async def test_forbid_unknown_fields(app, client, db):
    """A field that the desk does not know is a 422, at every depth."""
    path = await ann(app, db)

    stored = await client.post(f"{path}/orders", json=ORDER | {"gift": GIFT})
    typo, balance, in_a_line, in_a_gift = (
        await client.patch(path, json={"nmae": "Anna"}),
        await client.post("/customers", json=ANN | {"email": "e@shop.example", "balance": 9000}),
        await client.post(f"{path}/orders", json=ORDER | {"lines": [LINE | {"price": 1}]}),
        await client.post(f"{path}/orders", json=ORDER | {"gift": GIFT[:-1] + ', "sku": "JAM"}'}),
    )

    assert {
        "stored": stored.status_code,
        "typo": typo.status_code,
        "balance": balance.status_code,
        "in a line": in_a_line.status_code,
        "in a gift": in_a_gift.status_code,
    } == {"stored": 201, "typo": 422, "balance": 422, "in a line": 422, "in a gift": 422}, (
        "each of the four but the stored one has one field too many"
    )


async def test_tell_unset_from_null(app, client, db):
    """Left out is as it was, null takes a phone away, null for a name is a 422, also in OpenAPI."""
    path = await ann(app, db)

    same, anna, no_phone, no_name = [
        person(await client.patch(path, json=patch))
        for patch in ({}, {"name": "Anna"}, {"phone": None}, {"name": None})
    ]

    assert {"{}": same, "name": anna, "phone null": no_phone, "name null": no_name} == {
        "{}": "Ann +4930123456",
        "name": "Anna +4930123456",
        "phone null": "Anna None",
        "name null": 422,
    }, "four patches, one after the other"

    bob = await client.post("/customers", json={"email": "bob@shop.example", "name": "Bob"})

    assert person(bob) == "Bob None", "a phone may be left out"

    told = await schema(client, "patch", "/customers/{customer_id}", of="body")

    assert {
        "null": [name for name, kind in told["properties"].items() if "'null'" in str(kind)],
        "required": told.get("required", []),
        "default": [name for name, kind in told["properties"].items() if "default" in kind],
    } == {"null": ["phone"], "required": [], "default": []}, "what OpenAPI says of the PATCH"


async def test_bound_every_input(app, client, db):
    """What is too long, too many, too large, blank or no text is a 422; the edges are not."""
    path = await ann(app, db)

    async def register(**changes: Any) -> Any:
        return (await client.post("/customers", json=ANN | changes)).status_code

    async def order(**body: Any) -> Any:
        return (await client.post(f"{path}/orders", json={"deliver_at": NOON} | body)).status_code

    statuses = {
        "blank name": await register(email="b@shop.example", name=" \t "),
        "name of 81": await register(email="c@shop.example", name="x" * 81),
        "NUL in a name": await register(email="d@shop.example", name="Ann\0"),
        "line break after a phone": await register(email="e@shop.example", phone="+4930123456\n"),
        "phone in Arabic digits": await register(email="f@shop.example", phone="+٤٩٣٠١٢٣٤٥٦"),
        "e-mail of 300": await register(email="x" * 300 + "@shop.example"),
        "2**63 pieces": await order(lines=[LINE | {"quantity": 2**63}]),
        "-1 pieces": await order(lines=[LINE | {"quantity": -1}]),
        "51 lines": await order(lines=[LINE] * 51),
        "lines left out": await order(),
        "6 vouchers": await order(lines=[LINE], vouchers=["SALE"] * 6),
        "gift cut short": await order(lines=[LINE], gift=GIFT[:-1]),
        "gift to a name of 81": await order(lines=[LINE], gift=GIFT.replace("Bob", "x" * 81)),
    }

    not_refused = [what for what, status in statuses.items() if status != 422]
    assert not_refused == [], "what the desk should answer with 422"

    statuses = {
        "name of 80": await register(email="g@shop.example", name="é" * 80, phone="+4930123456"),
        "50 lines of 1000 pieces": await order(lines=[LINE | {"quantity": 1000}] * 50),
        "5 vouchers and a gift": await order(lines=[LINE], vouchers=["SALE"] * 5, gift=GIFT),
        "no voucher": await order(lines=[LINE]),
    }

    refused = {what: status for what, status in statuses.items() if status != 201}
    assert {
        "refused": refused,
        "vouchers": [len(order.vouchers) for order in await db.rows(app.Order)],
    } == {"refused": {}, "vouchers": [1, 6, 1]}, (
        "all are good; each order has THANKS besides its own"
    )


async def test_take_aware_datetimes(app, client, db):
    """A time is one moment: it comes with an offset and is answered in UTC, also later."""
    path = await ann(app, db)

    placed, no_offset, far = [
        await client.post(f"{path}/orders", json=ORDER | {"deliver_at": at})
        for at in (
            "2026-03-01T09:30:00+05:30",
            "2026-03-01T09:30:00",
            "9999-12-31T23:59:59-12:00",
        )
    ]

    assert {"no offset": no_offset.status_code, "year 9999": far.status_code} == {
        "no offset": 422,
        "year 9999": 422,
    }, "without an offset, or not before 2100 in UTC"

    listed = await client.get(f"{path}/orders")

    replies = {"placed": [seen(placed)], "listed": seen(listed)}
    assert {
        name: [str(datetime.fromisoformat(order["deliver_at"])) for order in orders]
        for name, orders in replies.items()
    } == {name: ["2026-03-01 04:00:00+00:00"] for name in replies}, (
        "half past nine at +05:30 is four o'clock in UTC"
    )


async def test_compute_derived_fields(app, client, db):
    """The total is in each reply, and OpenAPI promises it."""
    path = await ann(app, db)

    lines = [LINE, {"sku": "JAM-0002", "quantity": 1}]
    placed = await client.post(f"{path}/orders", json=ORDER | {"lines": lines})
    listed = await client.get(f"{path}/orders")

    assert {
        "placed": seen(placed, "total"),
        "listed": [order.get("total") for order in listed.json()] if listed.is_success else None,
    } == {"placed": {"total": 1220}, "listed": [1220]}, "two teas at 450 and a jam at 320"

    told = await schema(client, "post", "/customers/{customer_id}/orders", of="201")

    assert {
        "type": told.get("properties", {}).get("total", {}).get("type"),
        "required": "total" in told.get("required", []),
    } == {"type": "integer", "required": True}, "what OpenAPI says of the total"


async def test_normalise_what_must_be_unique(client):
    """One address is one customer, in whatever case and form it is written."""
    registered, again, composed, decomposed, strasse, straße = [
        await client.post("/customers", json={"email": email, "name": "Ann"})
        for email in (
            "Ann@Shop.example",
            "ann@shop.EXAMPLE ",
            "jos\u00e9@shop.example",
            "jose\u0301@shop.example",
            "strasse@shop.example",
            "straße@shop.example",
        )
    ]

    assert {
        "registered": registered.status_code,
        "again": again.status_code,
        "composed": composed.status_code,
        "decomposed": decomposed.status_code,
        "strasse": strasse.status_code,
        "straße": straße.status_code,
    } == {
        "registered": 201,
        "again": 409,
        "composed": 201,
        "decomposed": 409,
        "strasse": 201,
        "straße": 201,
    }, "again and decomposed are second spellings; strasse and straße are two people"

    found = await client.get("/customers", params={"email": "ANN@shop.example"})

    assert seen(found, "id") == seen(registered, "id"), "found by a third spelling"
