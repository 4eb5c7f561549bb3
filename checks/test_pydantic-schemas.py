"""Checks of pydantic-schemas: what may come in, what is stored, and what goes out."""

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import update

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


def moments(reply: Any) -> Any:
    """The times that a good reply tells in ISO texts, or what it tells instead; else its status."""
    if not reply.is_success:
        return reply.status_code
    orders = reply.json() if isinstance(reply.json(), list) else [reply.json()]
    return [moment(order.get("deliver_at")) for order in orders]


def moment(told: Any) -> str:
    """The time that an ISO text tells."""
    try:
        return str(datetime.fromisoformat(told))
    except (TypeError, ValueError):
        return f"no ISO text: {told!r}"


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
    """A client sets no id and no balance; customers of former years are answered as stored."""
    old = {"email": "Olga (at) Shop", "name": "Olga\nBakery", "phone": "030 / 123456 (ask Bob)"}
    await db.add(olga := app.Customer(**old, balance=500))

    registered, _own_id, _own_balance, _own_patch = (
        await client.post("/customers", json=ANN),
        await client.post("/customers", json=ANN | {"email": "eve@shop.example", "id": 77}),
        await client.post("/customers", json=ANN | {"email": "kim@shop.example", "balance": 9000}),
        await client.patch(f"/customers/{olga.id}", json={"balance": 9000}),
    )

    assert {
        "registered": seen(registered, "name", "balance"),
        "set by clients": [
            f"id {customer.id}, balance {customer.balance}"
            for customer in await db.rows(app.Customer)
            if customer.id == 77 or customer.balance == 9000
        ],
    } == {"registered": {"name": "Ann", "balance": 0}, "set by clients": []}, (
        "Ann is registered; the others sent the id 77 or a balance of 9000"
    )

    unchanged = await client.patch(f"/customers/{olga.id}", json={})

    assert seen(unchanged, "email", "name", "phone", "balance") == old | {"balance": 500}, (
        "the reply for a customer whose e-mail, name and phone would be refused today"
    )


async def test_forbid_unknown_fields(app, client, db):
    """A field that the desk does not know is a 422, at every depth."""
    path = await ann(app, db)

    good = await client.post(f"{path}/orders", json=ORDER | {"gift": GIFT})
    typo, balance, in_an_order, in_a_line, in_a_gift = (
        await client.patch(path, json={"nmae": "Anna"}),
        await client.post("/customers", json=ANN | {"email": "e@shop.example", "balance": 9000}),
        await client.post(f"{path}/orders", json=ORDER | {"total": 1}),
        await client.post(f"{path}/orders", json=ORDER | {"lines": [LINE | {"price": 1}]}),
        await client.post(f"{path}/orders", json=ORDER | {"gift": GIFT[:-1] + ', "sku": "JAM"}'}),
    )

    assert {
        "good": good.status_code,
        "typo": typo.status_code,
        "balance": balance.status_code,
        "in an order": in_an_order.status_code,
        "in a line": in_a_line.status_code,
        "in a gift": in_a_gift.status_code,
    } == {"good": 201} | dict.fromkeys(
        ("typo", "balance", "in an order", "in a line", "in a gift"), 422
    ), "all but the good one have one field too many"


async def test_tell_unset_from_null(app, client, db):
    """Left out is as it was, null takes a phone away, null for a name is a 422, also in OpenAPI."""
    path = await ann(app, db)

    same, both, no_phone, no_name = [
        person(await client.patch(path, json=patch))
        for patch in ({}, {"name": "Anna", "phone": "+3581234567"}, {"phone": None}, {"name": None})
    ]

    assert {"{}": same, "both": both, "phone null": no_phone, "name null": no_name} == {
        "{}": "Ann +4930123456",
        "both": "Anna +3581234567",
        "phone null": "Anna None",
        "name null": 422,
    }, "four patches, one after the other"

    bob = await client.post("/customers", json={"email": "bob@shop.example", "name": "Bob"})

    assert person(bob) == "Bob None", "a phone may be left out"

    told = await schema(client, "patch", "/customers/{customer_id}", of="body")

    fields = told.get("properties", {}).items()
    assert {
        "null": [name for name, kind in fields if "'null'" in str(kind)],
        "required": told.get("required", []),
        "default": [name for name, kind in fields if "default" in kind],
    } == {"null": ["phone"], "required": [], "default": []}, "what OpenAPI says of the PATCH"


async def test_bound_every_input(app, client, db):
    """What is too long, too many, too large, blank or no text is a 422; the edges are not."""
    path = await ann(app, db)

    async def register(email: str, **changes: Any) -> int:
        reply = await client.post("/customers", json=ANN | {"email": email} | changes)
        return reply.status_code

    async def patch(**changes: Any) -> int:
        return (await client.patch(path, json=changes)).status_code

    async def order(**body: Any) -> int:
        reply = await client.post(f"{path}/orders", json={"deliver_at": NOON} | body)
        return reply.status_code

    statuses = {
        "blank name": await register("b@shop.example", name=" \t "),
        "name of 81": await register("c@shop.example", name="x" * 81),
        "NUL in a name": await register("d@shop.example", name="Ann\0"),
        "line break in a name": await register("e@shop.example", name="Ann\r\nBakery"),
        "line break after a phone": await register("f@shop.example", phone="+4930123456\n"),
        "phone in Arabic digits": await register("g@shop.example", phone="+٤٩٣٠١٢٣٤٥٦"),
        "phone of 41 characters": await register("h@shop.example", phone="+" + "4" * 40),
        "e-mail of 300": await register("x" * 287 + "@shop.example"),
        "patch to a name of 81": await patch(name="x" * 81),
        "patch to no phone number": await patch(phone="ask Bob"),
    }

    not_refused = {what: status for what, status in statuses.items() if status != 422}
    assert not_refused == {}, "customers that the desk should answer with 422"

    statuses = {
        "0 pieces": await order(lines=[LINE | {"quantity": 0}]),
        "1001 pieces": await order(lines=[LINE | {"quantity": 1001}]),
        "1.5 pieces": await order(lines=[LINE | {"quantity": 1.5}]),
        "51 lines": await order(lines=[LINE] * 51),
        "no lines": await order(lines=[]),
        "lines left out": await order(),
        "6 vouchers": await order(lines=[LINE], vouchers=[f"SALE{n}" for n in range(6)]),
        "voucher and more": await order(lines=[LINE], vouchers=["SALE; free tea"]),
        "gift cut short": await order(lines=[LINE], gift=GIFT[:-1]),
        "gift to a name of 81": await order(lines=[LINE], gift=GIFT.replace("Bob", "x" * 81)),
        "gift with a text of 81": await order(lines=[LINE], gift=GIFT.replace("Enjoy", "x" * 81)),
    }

    not_refused = {what: status for what, status in statuses.items() if status != 422}
    assert not_refused == {}, "orders that the desk should answer with 422"

    vouchers = [f"SALE{n}" for n in range(5)]
    statuses = {
        "name of 80": await register("y@shop.example", name="é" * 80, phone="+4930123456"),
        "50 lines of 1000 pieces": await order(lines=[LINE | {"quantity": 1000}] * 50),
        "5 vouchers and a gift": await order(lines=[LINE], vouchers=vouchers, gift=GIFT),
        "no voucher": await order(lines=[LINE]),
    }

    refused = {what: status for what, status in statuses.items() if status != 201}
    assert {
        "refused": refused,
        "vouchers": [len(order.vouchers) for order in await db.rows(app.Order)],
    } == {"refused": {}, "vouchers": [1, 6, 1]}, (
        "all are good; each order has THANKS besides its own vouchers"
    )


@pytest.mark.on_postgresql_too("it keeps time zones, SQLite does not")
async def test_take_aware_datetimes(app, client, db):
    """A time is one moment: it comes with an offset and is answered in UTC, also later."""
    path = await ann(app, db)

    last_second = "2100-01-01T05:29:59+05:30"
    placed = await client.post(f"{path}/orders", json=ORDER | {"deliver_at": last_second})
    listed = await client.get(f"{path}/orders")

    in_utc = ["2099-12-31 23:59:59+00:00"]
    assert {"placed": moments(placed), "listed": moments(listed)} == {
        "placed": in_utc,
        "listed": in_utc,
    }, f"the reply's deliver_at for {last_second} should be an ISO text in UTC"

    statuses = {
        at: (await client.post(f"{path}/orders", json=ORDER | {"deliver_at": at})).status_code
        for at in (
            "2026-03-01T09:30:00",
            "2019-12-31T23:59:59Z",
            "2100-01-01T00:00:00Z",
            "9999-12-31T23:59:59-12:00",
        )
    }

    not_refused = {at: status for at, status in statuses.items() if status != 422}
    assert not_refused == {}, "without an offset, or not from 2020 until just before 2100 in UTC"


async def test_compute_derived_fields(app, client, db):
    """The total is in each reply, at the prices of the order's day, and OpenAPI promises it."""
    path = await ann(app, db)

    lines = [LINE, {"sku": "JAM-0002", "quantity": 1}, LINE]
    placed = await client.post(f"{path}/orders", json=ORDER | {"lines": lines})
    await db.execute(update(app.Line).values(price=100))
    listed = await client.get(f"{path}/orders")

    assert {
        "placed": seen(placed, "total"),
        "listed": [order.get("total") for order in listed.json()] if listed.is_success else None,
    } == {"placed": {"total": 2120}, "listed": [500]}, (
        "four teas at 450 and a jam at 320; listed with 100 as the price in each stored line"
    )

    told = await schema(client, "post", "/customers/{customer_id}/orders", of="201")

    assert {
        "type": told.get("properties", {}).get("total", {}).get("type"),
        "required": "total" in told.get("required", []),
    } == {"type": "integer", "required": True}, "what OpenAPI says of the total"


@pytest.mark.on_postgresql_too("it compares text in its own way")
async def test_normalise_what_must_be_unique(client):
    """One address is one customer, in whatever case and form; another address is another one."""
    taken = {
        "other capitals": "weiss2@shop.EXAMPLE ",
        "É as one character": "JOS\u00c9.\u01f0@shop.example",
        "J and a caron": "jos\u00e9.J\u030c@shop.example",
    }
    people = {
        "weiss2": "Weiss2@Shop.example",
        "é as two characters": "jose\u0301.\u01f0@shop.example",
        "ß": "weiß2@shop.example",
        "²": "weiss²@shop.example",
        "accent": "wéiss2@shop.example",
        "tag": "weiss2+tea@shop.example",
    }
    too_long = {"254 as sent, 494 in small letters": "x@" + "İ" * 240 + ".example.com"}
    told = {
        what: (await client.post("/customers", json={"email": email, "name": what})).status_code
        for what, email in (people | taken | too_long).items()
    }

    assert told == (
        dict.fromkeys(people, 201) | dict.fromkeys(taken, 409) | dict.fromkeys(too_long, 422)
    ), "409 is for a second spelling of weiss2@ or josé.ǰ@, 422 for over 254, 201 for new people"

    found = await client.get("/customers", params={"email": " Jose\u0301.J\u030c@SHOP.example"})

    assert seen(found, "name") == {"name": "é as two characters"}, (
        "the search, by one more spelling"
    )
