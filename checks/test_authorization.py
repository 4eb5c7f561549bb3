"""Checks of the topic authorization."""

import re

from fastapi import APIRouter, Depends
from fastapi.security import HTTPBearer
from sqlalchemy import case, update
from starlette.responses import PlainTextResponse


async def keys(app, db, **roles):
    """New customers by name, with these roles: the id of each, and the headers of a key."""
    signed_in = [
        app.SignIn(key=f"key-of-{name}", role=role, customer=app.Customer(name=name, role=role))
        for name, role in roles.items()
    ]
    await db.add(*signed_in)
    return [(each.customer_id, {"Authorization": f"Bearer {each.key}"}) for each in signed_in]


async def test_ask_for_the_owner_in_the_query(app, client, db):
    """A list, its total, a delete and an id in a body reach what is one's own, and no more."""
    (ann, by_ann), (bob, _) = await keys(app, db, ann="customer", bob="customer")
    bobs, first, second = (app.Order(customer_id=each) for each in (bob, ann, ann))
    home, bobs_home = (app.Address(customer_id=each) for each in (ann, bob))
    await db.add(bobs, first, second, home, bobs_home)
    line, bobs_line = (app.OrderLine(order_id=each.id, sku="tea") for each in (first, bobs))
    await db.add(line, bobs_line)

    listed = await client.get("/orders", params={"limit": 1}, headers=by_ann)

    assert listed.json() == {"ids": [first.id], "total": 2}, "a page of one, of two own orders"

    async def remove(order, line):
        path = f"/orders/{order.id}/lines/{line.id}"
        return (await client.delete(path, headers=by_ann)).status_code

    told = {
        "own": await remove(first, line),
        "bob's": await remove(bobs, bobs_line),
        "bob's, as if in an own order": await remove(second, bobs_line),
        "lines left": [each.id for each in await db.rows(app.OrderLine)],
    }

    assert told == {
        "own": 204,
        "bob's": 404,
        "bob's, as if in an own order": 404,
        "lines left": [bobs_line.id],
    }, "lines that ann removes"

    async def order_to(address):
        body = {"sku": "jam", "address_id": address.id}
        return (await client.post("/orders", json=body, headers=by_ann)).status_code

    placed = {"home": await order_to(home), "bob's home": await order_to(bobs_home)}

    assert placed == {"home": 201, "bob's home": 404}, "where ann's orders may go"


async def test_answer_404_for_the_others(app, client, db):
    """Of another's order one learns as much as of an order that never was."""
    (ann, by_ann), (bob, _) = await keys(app, db, ann="customer", bob="customer")
    own, bobs = app.Order(customer_id=ann), app.Order(customer_id=bob)
    own_shipped, bobs_shipped = (app.Order(customer_id=each, shipped=True) for each in (ann, bob))
    await db.add(own, own_shipped, bobs, bobs_shipped)

    async def ask(method, path):
        reply = await client.request(method, f"/orders/{path}", headers=by_ann)
        words = re.sub(r"\d+", "…", reply.text)
        return f"404 {words}" if reply.status_code == 404 else reply.status_code

    no_order = {
        "GET": await ask("GET", 9999),
        "DELETE": await ask("DELETE", 9999),
        "line": await ask("DELETE", "9999/lines/9999"),
    }
    told = {
        "own": await ask("GET", own.id),
        "own, cancelled": await ask("DELETE", own.id),
        "own shipped, cancelled": await ask("DELETE", own_shipped.id),
        "no such order": [str(each)[:3] for each in no_order.values()],
        "bob's": await ask("GET", bobs.id),
        "bob's, cancelled": await ask("DELETE", bobs.id),
        "bob's shipped, cancelled": await ask("DELETE", bobs_shipped.id),
        "a line of bob's": await ask("DELETE", f"{bobs.id}/lines/9999"),
    }

    assert told == {
        "own": 200,
        "own, cancelled": 204,
        "own shipped, cancelled": 409,
        "no such order": ["404", "404", "404"],
        "bob's": no_order["GET"],
        "bob's, cancelled": no_order["DELETE"],
        "bob's shipped, cancelled": no_order["DELETE"],
        "a line of bob's": no_order["line"],
    }, "bob's orders answer like no order at all"


async def test_tell_401_from_403(app, client, db):
    """Without a valid key one is asked to sign in; with one that is not enough, one is refused."""
    (ann, by_ann), (_, by_staff) = await keys(app, db, ann="customer", sue="staff")
    order = app.Order(customer_id=ann)
    await db.add(order)

    async def ship(headers):
        reply = await client.post(f"/office/orders/{order.id}/ship", headers=headers)
        challenge = reply.headers.get("www-authenticate", "")
        return f"401 {challenge[:6]}" if reply.status_code == 401 else reply.status_code

    told = {
        "no key": await ship({}),
        "an unknown key": await ship({"Authorization": "Bearer key-of-eve"}),
        "a customer": await ship(by_ann),
        "staff": await ship(by_staff),
    }

    assert told == {
        "no key": "401 Bearer",
        "an unknown key": "401 Bearer",
        "a customer": 403,
        "staff": 204,
    }, "status and challenge"


async def test_check_roles_on_the_server(app, client, db):
    """What counts is the role that the database holds now; no request can claim or write it."""
    (ann, by_ann), (_, by_sue) = await keys(app, db, ann="customer", sue="staff")
    order = app.Order(customer_id=ann)
    await db.add(order)

    async def ship(headers, **params):
        path = f"/office/orders/{order.id}/ship"
        return (await client.post(path, headers=headers, params=params)).status_code

    claims = {"X-Role": "staff", "X-User-Role": "staff", "Cookie": "role=staff"}
    told = {"staff": await ship(by_sue)}
    told["who says so"] = await ship(by_ann | claims, role="staff")
    roles = case((app.Customer.id == ann, "staff"), else_="packer")
    await db.execute(update(app.Customer).values(role=roles))
    told |= {"staff until now": await ship(by_sue), "staff from now on": await ship(by_ann)}

    assert told == {
        "staff": 204,
        "who says so": 403,
        "staff until now": 403,
        "staff from now on": 204,
    }, "who ships"

    await client.post("/customers", json={"name": "eva", "role": "staff"})
    await client.patch("/me", json={"name": "sue b"}, headers=by_sue)
    await client.patch("/me", json={"name": "sue b", "role": "staff"}, headers=by_sue)
    stored = {customer.name: customer.role for customer in await db.rows(app.Customer)}

    assert {"eva": "customer"} | stored == {
        "ann": "staff",
        "sue b": "packer",
        "eva": "customer",
    }, "names and roles; eva and sue asked to be staff"


async def test_deny_by_default(app, start, db):
    """The app starts only if each route has the guard or is listed as public."""

    async def answer():
        return "anybody reads this"

    def careless(shop):
        reports = APIRouter(dependencies=[Depends(HTTPBearer(auto_error=False))])
        reports.add_api_route("/reports", answer)
        reports.add_api_websocket_route("/live", answer)
        shop.include_router(reports, prefix="/v2")
        shop.add_api_route("/customers", answer)
        shop.add_api_route("/customers/{name}", answer, methods=["POST"])
        shop.add_api_route("/secret", answer, include_in_schema=False)
        shop.mount("/partner", PlainTextResponse("anybody reads this"))

    def careful(shop):
        reports = APIRouter(dependencies=[Depends(app.require_staff)])
        reports.add_api_route("/reports", answer)
        shop.include_router(reports)

    try:
        refusal = repr(app.create_app(db.engine, plugins=[careless]))
    except RuntimeError as error:
        refusal = str(error)
    client = await start(plugins=[careful])
    [(_, by_staff)] = await keys(app, db, sue="staff")
    told = {
        "unguarded": sorted({*re.findall(r"/[\w/{}]+", refusal)}),
        "staff at a guarded one": (await client.get("/reports", headers=by_staff)).status_code,
        "who registers": (await client.post("/customers", json={"name": "eve"})).status_code,
    }

    assert told == {
        "unguarded": [
            "/customers",
            "/customers/{name}",
            "/partner",
            "/secret",
            "/v2/live",
            "/v2/reports",
        ],
        "staff at a guarded one": 200,
        "who registers": 201,
    }, "the paths that the RuntimeError names, and what others answer"
