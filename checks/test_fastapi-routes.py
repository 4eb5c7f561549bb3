"""The checks of fastapi-routes: what a client is told, and what OpenAPI tells of it."""

import asyncio
import re
from urllib.parse import urljoin

ORDERS, ORDER = "/api/orders", "/api/orders/{}"
FIELDS = ["id", "price", "sku", "status"]
TEA = {"sku": "tea", "card": "tok_4000"}


def statuses(**replies):
    return {name: reply.status_code for name, reply in replies.items()}


def media(reply):
    return reply.headers.get("content-type", "").partition(";")[0]


def objects(reply):
    """The JSON objects of a reply: those of its list, or the one that it is."""
    body = reply.json() if "json" in media(reply) else []
    return body if isinstance(body, list) else [body] if isinstance(body, dict) else []


def fields(reply):
    return sorted({name for each in objects(reply) for name in each})


class Contract:
    """What /openapi.json tells: an operation by its method and its path, `{}` for each id."""

    def __init__(self, reply):
        self.document = reply.json() if reply.status_code == 200 else {}
        self.operations = {
            (method.upper(), re.sub(r"{.*?}", "{}", path)): operation
            for path, methods in self.document.get("paths", {}).items()
            for method, operation in methods.items()
        }

    def replies(self, method, path):
        """The described replies of an operation; its path may end in a slash."""
        found = self.operations.get((method, path)) or self.operations.get((method, f"{path}/"))
        return found["responses"] if found else {}

    def successes(self, method, path):
        return [int(code) for code in self.replies(method, path) if code.startswith("2")]

    def fields(self, method, path, reply):
        """The fields described for a body with this reply's status and media type."""
        replies, code = self.replies(method, path), str(reply.status_code)
        described = replies.get(code) or replies.get(f"{code[0]}XX") or replies.get("default", {})
        schema = described.get("content", {}).get(media(reply), {}).get("schema", {})
        while "items" in schema or "$ref" in schema:
            name = schema.get("$ref", "").rpartition("/")[2]
            schema = schema.get("items") or self.document["components"]["schemas"][name]
        return sorted(schema.get("properties", {}))


async def url_to_post(client):
    """Where orders are placed, with or without a slash: only keep-one-url judges that."""
    operations = Contract(await client.get("/openapi.json")).operations
    return next((path for method, path in operations if method == "POST"), ORDERS)


async def test_declare_the_response(app, client, db):
    """An order is told as its four fields, alone or in a list, and OpenAPI names the same four."""
    order = app.Order(sku="tea", price=1250, card="tok_4000")
    await db.add(order)

    shown, listed = await client.get(f"/api/orders/{order.id}"), await client.get("/api/orders")

    assert {"one order": fields(shown), "the list": fields(listed)} == {
        "one order": FIELDS,
        "the list": FIELDS,
    }, "the fields that a client sees"

    contract = Contract(await client.get("/openapi.json"))

    assert contract.fields("GET", ORDER, shown) == FIELDS, (
        "the fields of one order that OpenAPI tells"
    )


async def test_keep_routes_thin(app, client, db):
    """A shipped order is not cancelled, neither over HTTP nor by the nightly job."""
    first, second = (app.Order(sku="tea", price=5, card="tok_4000") for _ in range(2))
    shipped = app.Order(sku="jam", price=5, card="tok_4000", status="shipped")
    await db.add(first, second, shipped)

    over_http = [await client.delete(f"/api/orders/{each.id}") for each in (first, shipped)]
    async with db.session() as session:
        await app.cancel(session, second.id)
        (refusal,) = await asyncio.gather(app.cancel(session, shipped.id), return_exceptions=True)
        await session.commit()
    caught = "a ShopError" if isinstance(refusal, app.ShopError) else repr(refusal)

    assert {
        "over HTTP": [reply.status_code for reply in over_http],
        "the job caught": caught,
        "orders": [order.status for order in await db.rows(app.Order)],
    } == {
        "over HTTP": [204, 409],
        "the job caught": "a ShopError",
        "orders": ["cancelled", "cancelled", "shipped"],
    }, "the first is cancelled over HTTP, the second by the job, both are refused the shipped third"


async def test_bound_ids_and_limits(app, client, db):
    """A number that the database cannot take is no 500, and a page has 1 to 100 orders."""
    await db.add(*(app.Order(sku=sku, price=5, card="tok_4000") for sku in ("tea", "jam", "oat")))

    async def page(number, size):
        return await client.get("/api/orders", params={"page": number, "size": size})

    good = await page(2, 2)
    asked = {
        "order 2147483647": await client.get("/api/orders/2147483647"),
        "order 2**31": await client.get(f"/api/orders/{2**31}"),
        "order 2**63": await client.get(f"/api/orders/{2**63}"),
        "cancel 2**63": await client.delete(f"/api/orders/{2**63}"),
        "page 0": await page(0, 2),
        "size -1": await page(1, -1),
        "size 0": await page(1, 0),
        "size 101": await page(1, 101),
    }
    taken = {name: r.status_code for name, r in asked.items() if not 400 <= r.status_code < 500}

    assert {"page 2 of size 2": [o["sku"] for o in objects(good)], "no 4xx": taken} == {
        "page 2 of size 2": ["oat"],
        "no 4xx": {},
    }, "three orders are stored: what there is, and the client's faults that are no 4xx"

    far = {
        "page 2**63": await page(2**63, 1),
        "page 10**17, size 100": await page(10**17, 100),
    }

    assert {name: r.status_code for name, r in far.items() if r.status_code >= 500} == {}, (
        "a page far behind the last is refused or empty"
    )


async def test_answer_with_the_right_status(app, client, db):
    """Each status says what happened, OpenAPI says the same, and a 201 says where it is."""
    old = app.Order(sku="tea", price=1250, card="tok_4000")
    await db.add(old, app.Product(sku="tea", cents=1250, left=1))
    url = await url_to_post(client)

    placed, sold_out, gone = (
        await client.post(url, json=TEA),
        await client.post(url, json=TEA),
        await client.delete(f"/api/orders/{old.id}"),
    )

    assert statuses(placed=placed, sold_out=sold_out, gone=gone) == {
        "placed": 201,
        "sold_out": 409,
        "gone": 204,
    }, "the last tea is ordered, ordered once more, and an old order is cancelled"

    found = await client.get(urljoin(str(placed.url), placed.headers.get("location")))

    assert {"at the Location": objects(found), "body of the 204": gone.text} == {
        "at the Location": objects(placed),
        "body of the 204": "",
    }, f"the 201 has the Location {placed.headers.get('location')!r}"

    contract = Contract(await client.get("/openapi.json"))

    assert {
        "POST": contract.successes("POST", ORDERS),
        "DELETE": contract.successes("DELETE", ORDER),
    } == {"POST": [201], "DELETE": [204]}, "the statuses of success that OpenAPI tells"


async def test_convert_once(app, client, db):
    """An order of 1250 cents is told at 12.50 euros."""
    await db.add(app.Order(sku="tea", price=1250, card="tok_4000"))

    listed = await client.get("/api/orders")

    assert {"told": listed.status_code, "prices": [o.get("price") for o in objects(listed)]} == {
        "told": 200,
        "prices": ["12.50"],
    }, "one order of 1250 cents is stored"


async def test_document_what_can_fail(app, client, db):
    """Each refusal stands in OpenAPI, with the media type and the fields that are sent."""
    shipped = app.Order(sku="tea", price=5, card="tok_4000", status="shipped")
    await db.add(shipped, app.Product(sku="tea", cents=1250, left=0))
    url = await url_to_post(client)

    sent = [
        ("POST", ORDERS, await client.post(url, json=TEA)),
        ("POST", ORDERS, await client.post(url, json=TEA | {"sku": "jam"})),
        ("POST", ORDERS, await client.post(url, json={})),
        ("GET", ORDER, await client.get("/api/orders/77")),
        ("DELETE", ORDER, await client.delete("/api/orders/77")),
        ("DELETE", ORDER, await client.delete(f"/api/orders/{shipped.id}")),
    ]

    contract = Contract(await client.get("/openapi.json"))
    told_otherwise = {
        f"{method} {reply.status_code}": f"{media(reply)} {fields(reply)}"
        for method, path, reply in sent
        if not {*fields(reply)} <= {*contract.fields(method, path, reply)}
    }

    assert {
        "sent, not described so": told_otherwise,
        "sent": [reply.status_code for _, _, reply in sent],
    } == {"sent, not described so": {}, "sent": [409, 404, 422, 404, 404, 409]}, (
        "what was sent, and is not in OpenAPI with its media type and fields"
    )


async def test_keep_one_url(app, client, db):
    """POST /api/orders answers itself, and OpenAPI has each operation once, by its own name."""
    await db.add(app.Product(sku="tea", cents=1250, left=1))

    placed = await client.post("/api/orders", json=TEA)

    assert {"told": placed.status_code, "orders": await db.count(app.Order)} == {
        "told": 201,
        "orders": 1,
    }, "a POST to /api/orders by a client that follows no redirects"

    contract = Contract(await client.get("/openapi.json"))

    assert sorted(
        f"{operation['operationId']}: {method} {path}"
        for (method, path), operation in contract.operations.items()
    ) == [
        "cancel_order: DELETE /api/orders/{}",
        "list_orders: GET /api/orders",
        "place_order: POST /api/orders",
        "show_order: GET /api/orders/{}",
    ], "the operations that OpenAPI tells"
