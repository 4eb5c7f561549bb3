"""The checks of layered-backend: what holds for a service as a whole."""

import asyncio
import re
import sys
from collections import Counter, defaultdict
from contextlib import contextmanager, redirect_stdout
from io import StringIO

import grimp
import pytest
from fastapi.params import Depends
from importlinter import configuration
from importlinter.application.use_cases import lint_imports
from sqlalchemy import Engine, event, func, select
from sqlalchemy.util import await_only

from proven_backend.database import connections

configuration.configure()

CARD = "4000123412341234"
CUSTOMER = "ann@home.example"
PROBLEM = "application/problem+json"
LAYERS = {"app.routes", "app.schemas", "app.services", "app.repositories", "app.models"}
HTTP = {"fastapi", "starlette"}
PAST = {
    "app.main": {"app.repositories"},
    "app.core": LAYERS | {"app.main"},
    "app.routes": {"app.main", "app.repositories", "sqlalchemy"},
    "app.schemas": {"app.main", "app.repositories", "sqlalchemy"},
    "app.services": {"app.main", "app.routes"} | HTTP,
    "app.repositories": {"app.main", "app.routes", "app.services"} | HTTP,
    "app.models": {"app.main", "app.core"} | LAYERS - {"app.models"} | HTTP,
}
PROVIDERS, SESSIONS = "app.routes.dependencies", "app.core.database"
PLANTED = {
    "routes/planted_repository.py": "from ..repositories import orders\n",
    "routes/planted_session.py": "from ..core.database import SessionDep\n",
    "services/planted_fastapi.py": "from fastapi import HTTPException\n",
}


def order(*skus, count=1):
    return {"customer": CUSTOMER, "lines": [{"sku": sku, "count": count} for sku in skus]}


@contextmanager
def failing(engine, number=0, bug=None):
    """The write of this number fails in the database inside the block; the list is of the writes.

    With a bug, every statement meets that instead.
    """
    writes = []

    def fail(_conn, _cursor, sql, parameters, _context, _many):
        if bug and not sql.startswith("BEGIN"):
            raise bug
        if sql.startswith(("INSERT", "UPDATE", "DELETE")):
            writes.append(" ".join(sql.split()[:3]))
            if len(writes) == number:
                return "SELECT * FROM the_database_is_gone", ()
        return sql, parameters

    event.listen(engine.sync_engine, "before_cursor_execute", fail, retval=True)
    yield writes
    event.remove(engine.sync_engine, "before_cursor_execute", fail)


@contextmanager
def slow_connections(engine):
    """Whoever gets a connection inside the block lets the others go on first; counts them."""
    given = []

    async def let_others_go_on():
        for _ in range(200):
            await asyncio.sleep(0)

    def hold(*_call):
        given.append("connection")
        await_only(let_others_go_on())

    event.listen(engine.sync_engine, "checkout", hold)
    yield given
    event.remove(engine.sync_engine, "checkout", hold)


def origin(value):
    """The module in which a value was made; of a dependency's alias, that of its function."""
    made_by = [
        part.dependency for part in getattr(value, "__metadata__", ()) if isinstance(part, Depends)
    ]
    return str(getattr(made_by[0] if made_by else value, "__module__", ""))


def past_the_next_layer(app):
    """What the modules of the package `app` import though their layer may not, by module.

    A name that comes by way of another module counts as imported from where it was made.
    """
    root = app.__name__.removesuffix("app")
    graph = grimp.build_graph("app", include_external_packages=True, cache_dir=None)
    past = defaultdict(list)
    for importer in sorted(graph.modules):
        layer = ".".join(importer.split(".")[:2])
        if not layer.startswith("app"):
            continue
        names = getattr(sys.modules.get(root + importer), "__dict__", {})
        made_in = {origin(value).removeprefix(root) for value in names.values()} - {importer}
        for imported in sorted(graph.find_modules_directly_imported_by(importer) | made_in):
            forbidden = ".".join(imported.split(".")[:2]) in PAST.get(layer, {"app.repositories"})
            session = layer == "app.routes" and importer != PROVIDERS and imported == SESSIONS
            if forbidden or session:
                past[importer.removeprefix("app.")].append(imported.removeprefix("app."))
    return dict(past)


@contextmanager
def database_errors():
    """What databases answered inside the block that were no results, counted."""
    said = Counter()

    def hear(context):
        said.update(str(context.original_exception).splitlines()[:1])

    event.listen(Engine, "handle_error", hear)
    yield said
    event.remove(Engine, "handle_error", hear)


def said_by_contracts():
    """Whether the project keeps its own contracts, and what they say."""
    with redirect_stdout(StringIO()) as said:
        return lint_imports("pyproject.toml", cache_dir=None, no_logo=True), said.getvalue()


async def test_import_only_the_next_layer(app, project):
    """No layer imports past the next one, and the project's contracts find whoever does."""
    sys.path.insert(0, str(project))
    seen = {
        "past the next layer": past_the_next_layer(app),
        "contracts kept": said_by_contracts()[0],
    }
    for name, line in PLANTED.items():
        (project / "app" / name).write_text(line)
    _, said = said_by_contracts()
    seen["not found"] = [name for name in PLANTED if name.split("/")[1][:-3] not in said]

    assert seen == {"past the next layer": {}, "contracts kept": True, "not found": []}, (
        "imports of the app, and planted ones that the contracts of pyproject.toml do not find"
    )


async def test_hold_everything_in_the_app(app, db, empty, running):
    """Apps run side by side, each on its database; a stopped one holds nothing and starts again."""
    async with empty.engine.begin() as connection:
        await connection.run_sync(app.Base.metadata.create_all)
    await db.add(app.Product(sku="tea", price=450, in_stock=1))
    await empty.add(app.Product(sku="tea", price=480, in_stock=1))

    async def price(client):
        return (await client.get("/products/tea")).json().get("price")

    with connections() as left_open:
        north, south = [
            app.from_settings(app.Settings(database_url=url)) for url in (db.url, empty.url)
        ]
        async with running(north) as in_north:
            async with running(south) as in_south:
                seen = {"side by side": [await price(in_north), await price(in_south)]}
            seen["north when south has stopped"] = await price(in_north)
        seen["left open"] = len(left_open)
        async with running(north, cancelled=True) as in_north:
            seen["north started again"] = await price(in_north)
        seen["left open when cancelled"] = len(left_open)

    assert seen == {
        "side by side": [450, 480],
        "north when south has stopped": 450,
        "left open": 0,
        "north started again": 450,
        "left open when cancelled": 0,
    }, "the price of the tea, 450 in the north and 480 in the south; connections left open"


async def test_give_a_request_one_session(app, client, db):
    """A request has a session of its own: one connection, one transaction, committed once."""
    orders = [app.Order(customer=CUSTOMER, total=450), app.Order(customer=CUSTOMER, total=480)]
    await db.add(*orders)
    urls = [f"/orders/{order.id}" for order in orders]

    with slow_connections(db.engine) as given:
        paid = [await client.post(f"{url}/payment", json={"card": CARD}) for url in urls]
    seen = {"told": [reply.status_code for reply in paid], "connections": len(given)}
    seen |= Counter(db.order("BEGIN", "COMMIT", "ROLLBACK"))
    with slow_connections(db.engine):
        shown = await asyncio.gather(*map(client.get, urls))
    seen["paid, asked at once"] = [reply.json().get("paid") for reply in shown]

    assert seen == {
        "told": [201, 201],
        "connections": 2,
        "BEGIN": 2,
        "COMMIT": 2,
        "paid, asked at once": [True, True],
    }, "two payments, one after the other, and what they take together; then two requests at once"


async def test_reply_after_the_commit(app, client, db):
    """A client is told of its order or payment only when that is committed."""
    unpaid = app.Order(customer=CUSTOMER, total=450)
    await db.add(app.Product(sku="tea", price=450, in_stock=9), unpaid)

    ordered = await client.post("/orders", json=order("tea"))
    paid = await client.post(f"/orders/{unpaid.id}/payment", json={"card": CARD})
    seen = {"told": [ordered.status_code, paid.status_code], "order": db.order("COMMIT", "reply")}
    with db.commits_fail():
        lost = await client.post("/orders", json=order("tea"))
    seen["told when it is lost"] = "error" if lost.status_code >= 500 else lost.status_code

    assert seen == {
        "told": [201, 201],
        "order": ["COMMIT", "reply", "COMMIT", "reply"],
        "told when it is lost": "error",
    }, "an order and a payment; then an order that the database does not commit"


async def test_store_an_order_whole(app, client, db):
    """An order or payment is told 201 and all stored, or an error and nothing is."""
    orders = [app.Order(customer=CUSTOMER, total=450) for _ in range(20)]
    await db.add(app.Product(sku="tea", price=450, in_stock=99), *orders)
    await db.add(app.Product(sku="zest", price=90, in_stock=0))
    look = {
        "stock": select(app.Product.in_stock).where(app.Product.sku == "tea"),
        "paid": select(func.count()).where(app.Order.paid),
    } | {
        table.__tablename__: select(func.count()).select_from(table)
        for table in (app.Order, app.OrderLine, app.Shipment, app.Payment)
    }
    stored = select(*(query.scalar_subquery() for query in look.values()))

    async def outcome(url, body, number=0):
        [before] = await db.rows(stored)
        with failing(db.engine, number) as writes:
            told = (await client.post(url, json=body)).status_code
        [after] = await db.rows(stored)
        changed = [name for name, a, b in zip(look, before, after, strict=True) if a != b]
        told = told if told < 500 else "error"
        return writes, f"{told}, changed: {', '.join(changed) or 'nothing'}"

    good = {
        "order": "201, changed: stock, orders, order_lines, shipments",
        "payment": "201, changed: paid, payments",
    }
    _, sold_out = await outcome("/orders", order("tea", "zest"))
    seen = {"sold out": sold_out}
    for name, whole in good.items():
        for number, unpaid in enumerate(orders, 1):
            pay = (f"/orders/{unpaid.id}/payment", {"card": CARD})
            request = pay if name == "payment" else ("/orders", order("tea"))
            writes, found = await outcome(*request, number)
            failed = writes[number - 1 : number]
            if not failed or found not in (whole, "error, changed: nothing"):
                seen[f"{name}: {failed[0]} fails" if failed else name] = found
                break

    assert seen == good | {"sold out": "409, changed: nothing"}, (
        "what was told and stored: one of two is sold out; each write fails in turn; all is well"
    )


@pytest.mark.time_limit(30)
async def test_sell_each_item_once(app, db, monkeypatch, running):
    """Of 200 requests at once 40 want eight packs: none is sold twice, nobody sees an error."""
    await db.add(*(app.Product(sku=sku, price=450, in_stock=8) for sku in ("jam", "tea")))
    monkeypatch.setenv("SHOP_DATABASE_URL", db.url)
    baskets = [("tea", "jam"), ("jam", "tea")] * 4 + [("tea",)] * 32

    with database_errors() as said:
        async with (
            running(app.from_settings()) as one,
            running(app.from_settings()) as other,
        ):
            requests = []
            for number, skus in enumerate(baskets):
                worker = (one, other)[number % 2]
                requests.append(worker.post("/orders", json=order(*skus)))
                requests += [worker.get("/products/tea") for _ in range(4)]
            replies = await asyncio.gather(*requests)

    told = Counter(reply.status_code for reply in replies)
    sold = select(func.count()).select_from(app.OrderLine).where(app.OrderLine.sku == "tea")
    [_, tea] = await db.rows(app.Product)
    seen = {"told": dict(told), "left": tea.in_stock, "sold": await db.scalar(sold)}
    assert seen == {"told": {201: 8, 409: 32, 200: 160}, "left": 0, "sold": 8}, (
        "at once 40 customers order 8 packs of tea, and 160 look at them, at two workers; "
        f"errors of the database: {dict(said) or 'none'}"
    )


async def test_give_every_error_one_shape(app, client, db):
    """Every error is a problem document with its status, and tells nothing of the inside."""
    paid = app.Order(customer=CUSTOMER, total=450)
    await db.add(app.Product(sku="tea", price=450, in_stock=1), paid)
    payment = f"/orders/{paid.id}/payment"

    first = await client.post(payment, json={"card": CARD})
    replies = {
        "unknown order": await client.get("/orders/999"),
        "unknown page": await client.get("/nowhere"),
        "wrong method": await client.delete("/orders"),
        "wrong id": await client.get("/orders/0"),
        "wrong body": await client.post(payment, json={"card": CARD + CARD}),
        "sold out": await client.post("/orders", json=order("tea", count=2)),
        "paid twice": await client.post(payment, json={"card": CARD}),
    }
    with failing(db.engine, number=1):
        replies["broken database"] = await client.post("/orders", json=order("tea"))
    with failing(db.engine, bug=RuntimeError("no SELECT of tea")):
        replies["a bug"] = await client.post("/orders", json=order("tea"))
    allowed = replies["wrong method"].headers.get("allow")

    def shape(reply):
        media = reply.headers.get("content-type", "").partition(";")[0]
        body = reply.json() if media == PROBLEM else {}
        whole = {"type", "title", "status"} <= body.keys() and body["status"] == reply.status_code
        return f"{reply.status_code} {media if whole or media != PROBLEM else [*body]}"

    assert {"paid": f"{first.status_code}", "allowed": allowed} | {
        name: shape(reply) for name, reply in replies.items()
    } == {
        "paid": "201",
        "allowed": "POST",
        "unknown order": f"404 {PROBLEM}",
        "unknown page": f"404 {PROBLEM}",
        "wrong method": f"405 {PROBLEM}",
        "wrong id": f"422 {PROBLEM}",
        "wrong body": f"422 {PROBLEM}",
        "sold out": f"409 {PROBLEM}",
        "paid twice": f"409 {PROBLEM}",
        "broken database": f"500 {PROBLEM}",
        "a bug": f"500 {PROBLEM}",
    }, "status and media type of each error; keys of a problem that lacks some; what a 405 allows"
    inside = rf"{CARD}|{CUSTOMER}|\btea\b|SELECT|INSERT|is_gone|constraint|Traceback|\w+Error"
    leaks = {name: sorted(set(re.findall(inside, reply.text))) for name, reply in replies.items()}
    assert {name: words for name, words in leaks.items() if words} == {}, (
        "what a client reads of the input, of SQL or of an exception"
    )
