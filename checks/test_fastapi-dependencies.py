"""The checks of fastapi-dependencies: how routes get their sessions, customers and services."""

import asyncio
import threading
from contextlib import contextmanager
from datetime import date
from inspect import signature

from sqlalchemy import event, select

ANN, BOB, BOSS = ({"X-Customer": name} for name in ("ann", "bob", "boss"))


@contextmanager
def connections_in_use(db):
    """How many connections of the engine under grade are in use at each statement of the block."""
    seen = []

    def look(*_):
        seen.append(db.checked_out())

    event.listen(db.engine.sync_engine, "before_cursor_execute", look)
    yield seen
    event.remove(db.engine.sync_engine, "before_cursor_execute", look)


async def operation(client, method, path):
    """What OpenAPI says about a route; nothing where it does not know it."""
    paths = (await client.get("/openapi.json")).json()["paths"]
    return paths.get(path, {}).get(method, {})


def inputs(operation):
    """What clients send to a route, as OpenAPI says, without the header of the customer."""
    names = [each["name"] for each in operation.get("parameters", [])]
    names += ["a body"] if "requestBody" in operation else []
    return sorted(name for name in names if name.lower() != "x-customer")


def asks_for_the_customer(operation):
    """Whether OpenAPI tells a client of the route to send X-Customer."""
    names = [each["name"].lower() for each in operation.get("parameters", [])]
    return "x-customer" in names or bool(operation.get("security"))


async def test_share_one_alias(app, serve, db):
    """A request has one session, so all that it does is stored; two at once have two."""
    await db.add(
        app.Customer(name="ann"),
        app.Customer(name="boss", admin=True),
        app.Stock(sku="tea", left=9),
    )
    service = app.create_app(db.engine)
    client = await serve(service)

    with connections_in_use(db) as in_use:
        ordered = await client.post("/orders/tea", headers=ANN)

    assert {
        "told": ordered.status_code,
        "most connections in use": max(in_use, default=0),
        "orders": await db.count(app.Order),
        "points": await db.scalar(select(app.Customer.points).where(app.Customer.name == "ann")),
    } == {"told": 201, "most connections in use": 1, "orders": 1, "points": 1}, (
        "the customer and the service must have the same session in one request"
    )

    meanwhile = []

    class Interrupted:
        async def left(self, *args, **kwargs):
            meanwhile.append(db.checked_out())
            if len(meanwhile) == 1:
                await client.get("/office/stock/tea", headers=BOSS)
            return 9

    service.dependency_overrides[app.shop_service] = Interrupted
    looked = await client.get("/office/stock/tea", headers=BOSS)

    assert {"told": looked.text, "connections in use": meanwhile} == {
        "told": "9",
        "connections in use": [1, 2],
    }, "the same request came once more while the first was at work: each needs its own session"


async def test_chain_dependencies(app, client, db):
    """Each door lets in whom it should, and the customer is loaded once a request."""
    await db.add(
        app.Customer(name="ann"),
        app.Customer(name="boss", admin=True),
        app.Customer(name="former boss", admin=True, active=False),
        app.Stock(sku="tea", left=9),
    )

    async def visit(who):
        name, request = who.split(": ")
        headers = {} if name == "nobody" else {"X-Customer": name}
        return (await client.request(*request.split(), headers=headers)).status_code

    wanted = {
        "boss: GET /office/stock/tea": 200,
        "former boss: GET /office/stock/tea": 403,
        "former boss: GET /me/old-orders": 403,
        "ann: GET /office/stock/tea": 403,
        "ann: POST /office/stock/tea": 403,
        "a stranger: GET /me/old-orders": 401,
        "nobody: GET /office/stock/tea": 401,
    }
    await visit("former boss: POST /orders/tea")
    told = {who: await visit(who) for who in wanted}

    assert told | {"orders": await db.count(app.Order)} == wanted | {"orders": 0}, (
        "who was let in where; the former boss is blocked, and has tried to order tea, too"
    )

    with db.statements() as sent:
        restocked = await client.post("/office/stock/tea", headers=BOSS)

    assert {
        "told": (restocked.status_code, restocked.text),
        "queries for the customer": len([sql for sql in sent if "FROM customers" in sql]),
        "noted": await db.scalar(select(app.Stock.restocked_by)),
    } == {"told": (200, "10"), "queries for the customer": 1, "noted": "boss"}, (
        "guard and route must share the customer that was loaded once"
    )

    guarded = await operation(client, "get", "/office/stock/{sku}")

    assert {"X-Customer in OpenAPI": asks_for_the_customer(guarded)} == {
        "X-Customer in OpenAPI": True
    }, "a client made from OpenAPI does not know that the office wants a customer"


async def test_inject_services(app, serve, db):
    """A route works with the service that it is given, and clients cannot set how that is made."""
    await db.add(
        app.Customer(name="ann"),
        app.Customer(name="bob"),
        app.Customer(name="boss", admin=True),
        app.Stock(sku="tea", left=9),
    )
    service = app.create_app(db.engine)
    client = await serve(service)

    class Fake:
        async def place(self, *args, **kwargs):
            return 4711

        async def restock(self, *args, **kwargs):
            return 4712

        async def left(self, *args, **kwargs):
            return 4713

    service.dependency_overrides[app.shop_service] = Fake
    faked = {
        "order": await client.post("/orders/tea", headers=ANN),
        "restock": await client.post("/office/stock/tea", headers=BOSS),
        "look": await client.get("/office/stock/tea", headers=BOSS),
    }

    assert {route: reply.text for route, reply in faked.items()} | {
        "orders": await db.count(app.Order)
    } == {"order": "4711", "restock": "4712", "look": "4713", "orders": 0}, (
        "a test replaced `shop_service` by one that only gives numbers: 4711, 4712, 4713"
    )

    service.dependency_overrides.clear()
    everywhere = {"params": {"points": 1000}, "json": {"points": 1000}}
    ordered = [
        await client.post("/orders/tea", headers=ANN),
        await client.post("/orders/tea", headers=BOB | {"points": "1000"}, **everywhere),
    ]

    assert {
        "told": [reply.status_code for reply in ordered],
        "orders": await db.count(app.Order),
        "points": dict(await db.rows(select(app.Customer.name, app.Customer.points))),
        "inputs in OpenAPI": inputs(await operation(client, "post", "/orders/{sku}")),
    } == {
        "told": [201, 201],
        "orders": 2,
        "points": {"ann": 1, "bob": 1, "boss": 0},
        "inputs in OpenAPI": ["sku"],
    }, "ann and bob ordered tea, bob with points=1000 in query, header and body"


async def hang_up(request, when):
    """Sends a request and cancels it once `when` is set, or once it is answered."""
    sent, ready = asyncio.create_task(request), asyncio.create_task(when.wait())
    await asyncio.wait({sent, ready}, return_when=asyncio.FIRST_COMPLETED)
    sent.cancel()
    ready.cancel()
    await asyncio.wait({sent, ready})


class Desks:
    def __init__(self):
        self.free, self.light_works = list(range(9)), True

    async def take(self):
        return self.free.pop(0)

    async def light(self, desk):
        if not self.light_works:
            raise OSError("the lamp is broken")

    async def give_back(self, desk):
        await asyncio.sleep(0)
        self.free.append(desk)


async def test_clean_up_in_finally(app, start):
    """A desk is taken while an order is packed, and given back however that ends."""
    desks, packing, free = Desks(), asyncio.Event(), {}

    async def wrap(order_id):
        free["meanwhile"] = len(desks.free)
        if order_id == 2:
            raise OSError("no paper left")
        if order_id == 3:
            packing.set()
            await asyncio.Event().wait()

    async def in_the_dark(request):
        desks.light_works = False
        return await request

    async def ending(request):
        before, reply = len(desks.free), await request
        told = reply.status_code if reply else "none"
        return f"{told}, {before - len(desks.free)} kept"

    client = await start(desks=desks, wrap=wrap)
    packed = await client.post("/orders/1/parcel")
    free["afterwards"] = len(desks.free)

    assert {"told": f"{packed.status_code} {packed.text}", "free desks": free} == {
        "told": '200 "packed at desk 0"',
        "free desks": {"meanwhile": 8, "afterwards": 9},
    }, "of nine desks, while an order was packed and afterwards"

    ended = {
        "wrap failed": await ending(client.post("/orders/2/parcel")),
        "bad id": await ending(client.post("/orders/x/parcel")),
        "cancelled": await ending(hang_up(client.post("/orders/3/parcel"), packing)),
        "light failed": await ending(in_the_dark(client.post("/orders/4/parcel"))),
    }

    assert ended == {
        "wrap failed": "500, 0 kept",
        "bad id": "422, 0 kept",
        "cancelled": "none, 0 kept",
        "light failed": "500, 0 kept",
    }, "the status that each of these requests was told, and how many desks it kept"


async def test_reraise_what_you_catch(app, start, db):
    """The journal learns why an order failed, and so does the client."""
    await db.add(
        app.Customer(name="ann"), app.Stock(sku="tea", left=9), app.Stock(sku="jam", left=0)
    )
    journal = []
    client = await start(journal=journal.append)

    async def order(sku, headers=ANN):
        journal.clear()
        told = (await client.post(f"/orders/{sku}", headers=headers)).status_code
        return " ".join([str(told), *(type(error).__name__ for error in journal)])

    async def unstored(order):
        with db.commits_fail():
            return await order

    ended = {
        "tea": await order("tea"),
        "jam, sold out": await order("jam"),
        "an unknown sku": await order("nonsense"),
        "no customer": await order("tea", headers={}),
        "the COMMIT fails": await unstored(order("tea")),
    }

    assert ended == {
        "tea": "201",
        "jam, sold out": "409 SoldOutError",
        "an unknown sku": "404 ShopError",
        "no customer": "401 HTTPException",
        "the COMMIT fails": "500 OperationalError",
    }, "what each order was told, and the errors of which the journal was told"


async def test_keep_the_loop_free(app, start, db):
    """What blocks runs in a thread of its own, and the event loop serves others meanwhile."""
    await db.add(app.Customer(name="ann"))
    loop, loops_thread, ran = asyncio.get_running_loop(), threading.get_ident(), {}

    def note(what):
        if threading.get_ident() == loops_thread:
            ran[what] = "in the event loop"
            return
        served = threading.Event()
        loop.call_soon_threadsafe(served.set)
        free = served.wait(timeout=2)
        ran[what] = "in a thread" if free else "in a thread for which the event loop waits"

    def quote(sku):
        note("quote")
        return 7

    def old_orders(name):
        note("old_orders")
        return ["coffee"]

    client = await start(quote=quote, old_orders=old_orders)

    told = [
        (await client.get("/shipping/tea")).text,
        (await client.get("/me/old-orders", headers=ANN)).text,
    ]

    assert {"told": told, **ran} == {
        "told": ["7", '["coffee"]'],
        "quote": "in a thread",
        "old_orders": "in a thread",
    }, "where the two functions that block ran"


async def test_override_at_the_seam(app, serve, db):
    """Whoever replaces `today` replaces it for every route, and clients cannot."""
    await db.add(app.Customer(name="ann"), app.Stock(sku="tea", left=9))
    service = app.create_app(db.engine)
    client = await serve(service)

    async def at_easter():
        return date(2027, 3, 28)

    service.dependency_overrides[app.today] = at_easter
    await client.post("/orders/tea", headers=ANN)
    leaves = await client.get("/partners/next-parcel")

    assert {"ordered": str(await db.scalar(select(app.Order.day))), "leaves": leaves.text} == {
        "ordered": "2027-03-28",
        "leaves": '"2027-03-28"',
    }, "a test replaced `today` with 28 March 2027"

    overrides = service.dependency_overrides
    del overrides[app.today]
    overrides[app.shop_service] = app.shop_service
    for pretending, day in (service, 23), (service, 24), (app.create_app(db.engine), 25):
        app.pretend(pretending, date(2027, 12, day))
    names = ["day", *signature(service.dependency_overrides.get(app.today, app.today)).parameters]
    leaves, asked = (
        await client.get("/partners/next-parcel"),
        await client.get("/partners/next-parcel", params=dict.fromkeys(names, "1999-12-31")),
    )

    assert {
        "plain": leaves.text,
        "1999-12-31 in the query": asked.text,
        "other override": "kept" if app.shop_service in service.dependency_overrides else "lost",
    } == {
        "plain": '"2027-12-24"',
        "1999-12-31 in the query": '"2027-12-24"',
        "other override": "kept",
    }, "`pretend` told this app 23, then 24 December 2027, and another app the 25th"
