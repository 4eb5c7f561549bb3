"""The checks of fastapi-routes: what a client is told, and what OpenAPI tells of it."""

import asyncio
import re
from urllib.parse import urljoin

import pytest

ORDERS, ORDER = "/api/orders", "/api/orders/{}"
FIELDS = ["id", "price", "sku", "status"]
TEA = {"sku": "tea", "card": "tok_4000"}
MAX_ID, NO_ID = 2**31 - 1, 2**31 - 2


def media(reply):
    return reply.headers.get("content-type", "").partition(";")[0]


def objects(reply):
    """The JSON objects of a reply: those of its list, or the one that it is."""
    body = reply.json() if "json" in media(reply) else []
    return body if isinstance(body, list) else [body] if isinstance(body, dict) else []


def fields(reply):
    return sorted({name for each in objects(reply) for name in each})


def values(field, reply):
    return [each[field] for each in objects(reply) if field in each]


class Contract:
    """What /openapi.json tells: an operation by its method and its path, `{}` for each id."""

    def __init__(self, reply):
        self.document = reply.json() if reply.status_code == 200 else {}
        self.operations = {
            (method.upper(), re.sub(r"{.*?}", "{}", path)): operation
            for path, methods in self.document.get("paths", {}).items()
            for method, operation in methods.items()
        }

    def path(self, method, path):
        """Where that is, with or without a slash: only keep-one-url judges that."""
        return next((p for p in (path, f"{path}/") if (method, p) in self.operations), path)

    def replies(self, method, path):
        """The described replies of an operation."""
        return self.operations.get((method, self.path(method, path)), {}).get("responses", {})

    def successes(self, method, path):
        return [int(code) for code in self.replies(method, path) if code.startswith("2")]

    def bodies(self, method, path, reply):
        """The schema of each media type described for this reply's status; any 2xx is a success."""
        replies, code = self.replies(method, path), str(reply.status_code)
        if reply.is_success:
            code = next((known for known in replies if known.startswith("2")), code)
        described = replies.get(code) or replies.get(f"{code[0]}XX") or replies.get("default", {})
        return {kind: self.found(body) for kind, body in described.get("content", {}).items()}

    def found(self, body):
        """The schema of one object, behind lists and references; one that is not there is empty."""
        schema = body.get("schema", {})
        while "items" in schema or "$ref" in schema:
            name = schema.get("$ref", "").rpartition("/")[2]
            known = self.document.get("components", {}).get("schemas", {})
            schema = schema.get("items") or known.get(name, {"properties": {f"no {name}": {}}})
        return schema

    def fields(self, method, path, reply):
        """The fields described for a body with this reply's media type."""
        schema = self.bodies(method, path, reply).get(media(reply), {})
        return sorted(schema.get("properties", {}))

    def refusal(self, method, path, reply):
        """ "as sent" where a body with the fields of this reply is described, else what is."""
        bodies = self.bodies(method, path, reply)
        schema = bodies.get(media(reply))
        if schema is None:
            return ", ".join(bodies) or "no body"
        needed, known = schema.get("required", []), schema.get("properties", {})
        fits = {*needed} <= {*fields(reply)} <= {*known}
        return "as sent" if fits else ", ".join(known) or "no fields"

    def unbounded(self):
        """The numbers in paths and queries that are told without two bounds."""
        return [
            f"{number['name']} of {method} {path}"
            for (method, path), operation in self.operations.items()
            for number in operation.get("parameters", [])
            if "integer" in (told := str(number["schema"]).lower())
            and not ("minimum" in told and "maximum" in told)
        ]


async def test_declare_the_response(app, client, db):
    """An order is told as its four fields, new, one or in a list; OpenAPI names the same four."""
    order = app.Order(sku="tea", price=1250, card="tok_4000")
    await db.add(order, app.Product(sku="tea", cents=1250, left=1))
    contract = Contract(await client.get("/openapi.json"))

    orders = {
        "new": ("POST", ORDERS, await client.post(contract.path("POST", ORDERS), json=TEA)),
        "one": ("GET", ORDER, await client.get(f"/api/orders/{order.id}")),
        "list": ("GET", ORDERS, await client.get("/api/orders")),
    }

    assert {
        "sent": {name: fields(reply) for name, (*_, reply) in orders.items()},
        "in OpenAPI": {name: contract.fields(*order) for name, order in orders.items()},
    } == {
        "sent": dict.fromkeys(orders, FIELDS),
        "in OpenAPI": dict.fromkeys(orders, FIELDS),
    }, "the fields of a new order, of one order and of the list"


async def test_keep_routes_thin(app, client, db):
    """The nightly job is refused what HTTP is refused, and only the job itself commits its work."""
    first, second, undone = (app.Order(sku="tea", price=5, card="tok_4000") for _ in range(3))
    shipped = app.Order(sku="jam", price=5, card="tok_4000", status="shipped")
    await db.add(first, second, undone, shipped)
    url = Contract(await client.get("/openapi.json")).path("DELETE", ORDER)

    over_http = [await client.delete(url.format(each.id)) for each in (first, shipped)]
    async with db.session() as session:
        await app.cancel(session, undone.id)
        await session.rollback()
        await app.cancel(session, second.id)
        caught = {
            name: await asyncio.gather(app.cancel(session, number), return_exceptions=True)
            for name, number in {"shipped": shipped.id, "unknown": NO_ID}.items()
        }
        await session.commit()

    assert {
        "over HTTP": [reply.status_code for reply in over_http],
        "the job caught": {
            name: "a ShopError" if isinstance(error, app.ShopError) else repr(error)
            for name, (error,) in caught.items()
        },
        "stored": {order.id: order.status for order in await db.rows(app.Order)},
    } == {
        "over HTTP": [204, 409],
        "the job caught": {"shipped": "a ShopError", "unknown": "a ShopError"},
        "stored": {
            first.id: "cancelled",
            second.id: "cancelled",
            undone.id: "new",
            shipped.id: "shipped",
        },
    }, "to cancel: 1 and the shipped 4 over HTTP; by the job 3 (rolled back), 2, 4, an unknown one"


@pytest.mark.on_postgresql_too("integers have other bounds there")
async def test_bound_ids_and_limits(app, client, db):
    """All ids and pages that can be are served; no other number comes as far as the database."""
    several = [app.Order(sku="tea", price=5, card="tok_4000") for _ in range(21)]
    await db.add(*several, app.Order(id=MAX_ID, sku="jam", price=5, card="tok_4000"))

    served = {
        "no page or size": await client.get("/api/orders"),
        "page 2, size 20": await client.get("/api/orders?page=2&size=20"),
        "page 1, size 100": await client.get("/api/orders?page=1&size=100"),
        "page 10000, size 1": await client.get("/api/orders?page=10000&size=1"),
        f"order {MAX_ID}": await client.get(f"/api/orders/{MAX_ID}"),
    }

    assert {name: (r.status_code, len(values("id", r))) for name, r in served.items()} == {
        "no page or size": (200, 20),
        "page 2, size 20": (200, 2),
        "page 1, size 100": (200, 22),
        "page 10000, size 1": (200, 0),
        f"order {MAX_ID}": (200, 1),
    }, f"status and number of orders; stored are 22, the last as order {MAX_ID}"

    async def ask(method, path):
        with db.statements() as sent:
            reply = await client.request(method, f"/api/orders{path}")
        return f"{reply.status_code}{' after SQL' if sent else ''}"

    orders = {
        "show 2**31": await ask("GET", f"/{2**31}"),
        "show 2**63": await ask("GET", f"/{2**63}"),
        "cancel 2**63": await ask("DELETE", f"/{2**63}"),
    }

    assert {name: told for name, told in orders.items() if not re.fullmatch("4..", told)} == {}, (
        "the ids that got another answer than a 4xx without SQL"
    )

    pages = {
        "page 0": await ask("GET", "?page=0"),
        "page 2**63": await ask("GET", f"?page={2**63}&size=100"),
        "page 10**17": await ask("GET", f"?page={10**17}&size=100"),
        "size -1": await ask("GET", "?size=-1"),
        "size 0": await ask("GET", "?size=0"),
        "size 101": await ask("GET", "?size=101"),
    }

    assert {name: told for name, told in pages.items() if told != "422"} == {}, (
        "the pages, the far ones of size 100, that got another answer than a 422 without SQL"
    )

    contract = Contract(await client.get("/openapi.json"))

    assert contract.unbounded() == [], "the numbers that OpenAPI tells without two bounds"


async def test_answer_with_the_right_status(app, client, db):
    """Each status says what happened, OpenAPI says the same, and a 201 says where it is."""
    old = app.Order(sku="tea", price=1250, card="tok_4000")
    await db.add(old, app.Product(sku="tea", cents=1250, left=1))
    contract = Contract(await client.get("/openapi.json"))
    url = contract.path("POST", ORDERS)

    placed, sold_out, gone = (
        await client.post(url, json=TEA, params={"from": "phone"}),
        await client.post(url, json=TEA),
        await client.delete(contract.path("DELETE", ORDER).format(old.id)),
    )

    assert {
        "sent": [placed.status_code, sold_out.status_code, gone.status_code],
        "body of the last": gone.text,
        "POST in OpenAPI": contract.successes("POST", ORDERS),
        "DELETE in OpenAPI": contract.successes("DELETE", ORDER),
    } == {
        "sent": [201, 409, 204],
        "body of the last": "",
        "POST in OpenAPI": [201],
        "DELETE in OpenAPI": [204],
    }, "the last tea was ordered, ordered once more, and an old order was cancelled"

    location = placed.headers.get("location", "none")
    found = await client.get(urljoin(str(placed.url), location))

    assert {"status": found.status_code, "id": values("id", found)} == {
        "status": 200,
        "id": [order.id for order in await db.rows(app.Order) if order.id != old.id],
    }, f"what is at the Location of the 201: {location}"


async def test_convert_once(app, client, db):
    """An order of 1250 cents is told at 12.50 euros, new, one or in a list."""
    order = app.Order(sku="tea", price=1250, card="tok_4000")
    await db.add(order, app.Product(sku="tea", cents=50, left=1))
    url = Contract(await client.get("/openapi.json")).path("POST", ORDERS)

    orders = {
        "new": await client.post(url, json=TEA),
        "one": await client.get(f"/api/orders/{order.id}"),
        "list": await client.get("/api/orders"),
    }

    assert {name: values("price", reply) for name, reply in orders.items()} == {
        "new": ["0.50"],
        "one": ["12.50"],
        "list": ["12.50", "0.50"],
    }, "the prices: an order of 1250 cents was stored, one of 50 cents placed"


async def test_document_what_can_fail(app, client, db):
    """Each refusal stands in OpenAPI, with the media type and the fields that are sent."""
    shipped = app.Order(sku="tea", price=5, card="tok_4000", status="shipped")
    await db.add(shipped, app.Product(sku="tea", cents=1250, left=0))
    contract = Contract(await client.get("/openapi.json"))
    post, delete = contract.path("POST", ORDERS), contract.path("DELETE", ORDER)

    refused = [
        ("POST", ORDERS, await client.post(post, json=TEA)),
        ("POST", ORDERS, await client.post(post, json=TEA | {"sku": "jam"})),
        ("POST", ORDERS, await client.post(post, json={})),
        ("GET", ORDER, await client.get(f"/api/orders/{NO_ID}")),
        ("DELETE", ORDER, await client.delete(delete.format(NO_ID))),
        ("DELETE", ORDER, await client.delete(delete.format(shipped.id))),
    ]

    assert {
        f"{method} {reply.status_code}": contract.refusal(method, path, reply)
        for method, path, reply in refused
    } == dict.fromkeys(
        ["POST 409", "POST 404", "POST 422", "GET 404", "DELETE 404", "DELETE 409"], "as sent"
    ), (
        "the bodies in OpenAPI; the first was sent as "
        f"{media(refused[0][2])} with {fields(refused[0][2])}"
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
