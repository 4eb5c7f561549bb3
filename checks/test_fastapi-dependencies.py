"""The checks of fastapi-dependencies: how routes get their sessions, customers and services."""

import asyncio
import threading
from contextlib import contextmanager
from datetime import date

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


def parameters(operation):
    """The names of a route's parameters in OpenAPI, without the header of the customer."""
    names = [each["name"] for each in operation.get("parameters", [])]
    return sorted(name for name in names if name.lower() != "x-customer")


def asks_for_the_customer(operation):
    """Whether OpenAPI tells a client of the route to send X-Customer."""
    names = [each["name"].lower() for each in operation.get("parameters", [])]
    return "x-customer" in names or bool(operation.get("security"))


async def test_share_one_alias(app, client, db):
    """An order, and the points that its customer earns, take one connection and are both stored."""
    await db.add(app.Customer(name="ann"), app.Stock(sku="tea", left=9))

    with connections_in_use(db) as in_use:
        ordered = await client.post("/orders/tea", headers=ANN)

    assert {
        "told": ordered.status_code,
        "most connections in use": max(in_use, default=0),
        "orders": await db.count(app.Order),
        "points": await db.scalar(select(app.Customer.points)),
    } == {"told": 201, "most connections in use": 1, "orders": 1, "points": 1}, (
        "the customer and the service must have the same session in one request"
    )


async def test_chain_dependencies(app, client, db):
    """The office lets active admins in, nobody else, and loads the customer once a request."""
    await db.add(
        app.Customer(name="ann"),
        app.Customer(name="boss", admin=True),
        app.Customer(name="former boss", admin=True, active=False),
        app.Stock(sku="tea", left=9),
    )

    async def look(name):
        headers = {} if name == "no name" else {"X-Customer": name}
        return (await client.get("/office/stock/tea", headers=headers)).status_code

    names = ["boss", "former boss", "ann", "a stranger", "no name"]
    told = {name: await look(name) for name in names}

    assert told == {
        "boss": 200,
        "former boss": 403,
        "ann": 403,
        "a stranger": 401,
        "no name": 401,
    }, "who is let into the office"

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
    await db.add(app.Customer(name="ann"), app.Customer(name="bob"), app.Stock(sku="tea", left=9))
    service = app.create_app(db.engine)
    client = await serve(service)

    class Fake:
        async def place(self, *args, **kwargs):
            return 4711

    service.dependency_overrides[app.shop_service] = Fake
    faked = await client.post("/orders/tea", headers=ANN)

    assert {"told": faked.text, "orders": await db.count(app.Order)} == {
        "told": "4711",
        "orders": 0,
    }, "a test replaced `shop_service`: its own service gives 4711 and stores nothing"

    service.dependency_overrides.clear()
    ordering = await operation(client, "post", "/orders/{sku}")
    await client.post("/orders/tea?points=1000", headers=BOB)

    assert {
        "parameters in OpenAPI": parameters(ordering),
        "points for ?points=1000": await db.scalar(
            select(app.Customer.points).where(app.Customer.name == "bob")
        ),
    } == {"parameters in OpenAPI": ["sku"], "points for ?points=1000": 1}, (
        "how the service is made is no matter of the client"
    )


async def hang_up(request, when):
    """Sends a request and cancels it once `when` is set, or once it is answered."""
    sent, ready = asyncio.create_task(request), asyncio.create_task(when.wait())
    await asyncio.wait({sent, ready}, return_when=asyncio.FIRST_COMPLETED)
    sent.cancel()
    ready.cancel()
    await asyncio.wait({sent, ready})


class Desks:
    def __init__(self):
        self.free, self.light_works = list(range(1, 10)), True

    async def take(self):
        return self.free.pop()

    async def light(self, desk):
        if not self.light_works:
            raise OSError("the lamp is broken")

    async def give_back(self, desk):
        await asyncio.sleep(0)
        self.free.append(desk)


async def test_clean_up_in_finally(app, start):
    """A desk is given back however the packing ends."""
    desks, packing = Desks(), asyncio.Event()

    async def wrap(order_id):
        if order_id == 2:
            raise OSError("no paper left")
        if order_id == 3:
            packing.set()
            await asyncio.Event().wait()

    async def in_the_dark(request):
        desks.light_works = False
        await request

    async def desks_lost(by):
        before = len(desks.free)
        await by
        return before - len(desks.free)

    client = await start(desks=desks, wrap=wrap)
    packed = await client.post("/orders/1/parcel")

    assert {"told": f"{packed.status_code} {packed.text}", "free desks": len(desks.free)} == {
        "told": '200 "packed at desk 9"',
        "free desks": 9,
    }, "of nine desks, after an order was packed"

    lost = {
        "the wrapping failed": await desks_lost(by=client.post("/orders/2/parcel")),
        "the id was no number": await desks_lost(by=client.post("/orders/x/parcel")),
        "it was cancelled": await desks_lost(by=hang_up(client.post("/orders/3/parcel"), packing)),
        "the light failed": await desks_lost(by=in_the_dark(client.post("/orders/4/parcel"))),
    }

    assert lost == dict.fromkeys(lost, 0), "how many desks each of these requests kept"


async def test_reraise_what_you_catch(app, start, db):
    """The journal learns why an order failed, and so does the client."""
    await db.add(
        app.Customer(name="ann"), app.Stock(sku="tea", left=9), app.Stock(sku="jam", left=0)
    )
    journal = []
    client = await start(journal=journal.append)

    told = {
        sku: (await client.post(f"/orders/{sku}", headers=ANN)).status_code
        for sku in ("tea", "jam", "nonsense")
    }

    assert told | {"journal": [type(error).__name__ for error in journal]} == {
        "tea": 201,
        "jam": 409,
        "nonsense": 404,
        "journal": ["SoldOutError", "ShopError"],
    }, "what each order was told, and what the journal was told"


async def test_keep_the_loop_free(app, start, db):
    """What blocks runs in a thread of its own, not in that of the event loop."""
    await db.add(app.Customer(name="ann"))
    loop, ran = threading.get_ident(), {}

    def note(what):
        ran[what] = "in the event loop" if threading.get_ident() == loop else "in a thread"

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

    service.dependency_overrides.clear()
    app.pretend(service, date(2027, 12, 24))
    leaves, asked = (
        await client.get("/partners/next-parcel"),
        await client.get("/partners/next-parcel?day=1999-12-31"),
    )

    assert {"plain": leaves.text, "with ?day=1999-12-31": asked.text} == {
        "plain": '"2027-12-24"',
        "with ?day=1999-12-31": '"2027-12-24"',
    }, "`pretend` was told 24 December 2027"
