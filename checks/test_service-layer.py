"""Checks of the service layer: what app.service promises to callers with and without HTTP."""

import asyncio
import importlib
import sys
import threading
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from types import ModuleType
from unittest.mock import patch

import pytest
from httpx2 import Response
from sqlalchemy import text

from proven_backend.database import Observer

RIVAL = "INSERT INTO customers (email, password_hash) VALUES ('{}', '-') ON CONFLICT DO NOTHING"


async def stored(app: ModuleType, db: Observer) -> dict[str, list[str]]:
    """The e-mails of the customers and the products of the orders that are committed."""
    customers = [customer.email for customer in await db.rows(app.service.Customer)]
    orders = [order.sku for order in await db.rows(app.service.Order)]
    return {"customers": customers, "orders": orders}


async def outcome(call: Awaitable[object]) -> object:
    """What the call returns or raises."""
    [what] = await asyncio.gather(call, return_exceptions=True)
    return what


def kind(what: object, wanted: type) -> str:
    """The wanted class's name if it is one of those, else the name of its own class."""
    return (wanted if isinstance(what, wanted) else type(what)).__name__


def told(reply: Response) -> str:
    """The words of a conflict; the status of any other reply."""
    return reply.json().get("detail") if reply.status_code == 409 else str(reply.status_code)


@contextmanager
def uninstalled(*distributions: str, package: str) -> Iterator[None]:
    """Here the distributions cannot be imported, and modules of the package are imported anew."""
    hidden = {name: None for name in sys.modules if name.partition(".")[0] in distributions}
    with patch.dict(sys.modules, hidden):
        for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
            del sys.modules[name]
        yield


async def test_raise_domain_errors(app, start, db):
    """A caller without HTTP gets the shop's own error for whatever the shop refuses."""
    shop = app.service
    await start(hasher=str.upper)
    ann = shop.Customer(email="ann@example.com", password_hash="-")
    await db.add(ann, shop.Stock(sku="cake", left=0))

    async with db.session() as session:
        found = await outcome(shop.CustomerService(session).get(ann.id))
        missing = await outcome(shop.CustomerService(session).get(ann.id + 1))
        sold_out = await outcome(shop.OrderService(session).place(ann.id, "cake"))

    assert [
        kind(found, shop.Customer),
        kind(missing, shop.NotFoundError),
        kind(sold_out, shop.SoldOutError),
    ] == ["Customer", "NotFoundError", "SoldOutError"], (
        "what callers got for a customer, for an unknown one, and for a cake that is sold out"
    )


async def test_stay_free_of_the_framework(app, start, db):
    """A worker without FastAPI imports the service and uses all of it."""
    await start(hasher=str.upper)
    await db.add(app.service.Stock(sku="tea", left=1))

    async def work() -> object:
        shop = importlib.import_module(app.service.__name__)
        async with db.session() as session:
            order = await shop.CheckoutService(session, str.upper).buy("ann@shop", "secret", "tea")
            customers = shop.CustomerService(session, str.upper)
            await customers.change_email(order.customer_id, "ann@example.com")
            await session.commit()
            await customers.find(email="ann@example.com")
            return await customers.get(order.customer_id + 1)

    with uninstalled("fastapi", "starlette", package=app.__package__):
        ended = await outcome(work())

    assert {
        "missing": ended.name if isinstance(ended, ImportError) else None,
        **await stored(app, db),
    } == {"missing": None, "customers": ["ann@example.com"], "orders": ["tea"]}, (
        f"without FastAPI the worker ended with {ended!r}"
    )


async def test_keep_slow_work_off_the_loop(app, start, db):
    """While a password is hashed, the event loop serves others."""
    loop, loops_thread = asyncio.get_running_loop(), threading.get_ident()
    others = list[str]()

    def hasher(password: str) -> str:
        served = threading.Event()
        loop.call_soon_threadsafe(served.set)
        in_a_thread = threading.get_ident() != loops_thread
        others.append("were served" if in_a_thread and served.wait(1) else "had to wait")
        return f"hash of {password}"

    client = await start(hasher=hasher)

    reply = await client.post("/customers", json={"email": "ann@example.com", "password": "secret"})

    assert {"reply": reply.status_code, "others": others} == {
        "reply": 201,
        "others": ["were served"],
    }, "how others fared each time that the hasher was called"


async def test_join_the_callers_transaction(app, start, db):
    """What services do is stored when their caller commits, and gone when it rolls back."""
    shop = app.service
    await start(hasher=str.upper)
    ann = shop.Customer(email="ann@example.com", password_hash="-")
    await db.add(ann, *(shop.Stock(sku=sku, left=1) for sku in ("tea", "milk")))

    async with db.session() as session:
        await outcome(shop.OrderService(session).place(ann.id, "tea"))
        await outcome(shop.CustomerService(session, str.upper).register("bob@shop", "secret"))
        await outcome(shop.CustomerService(session).change_email(ann.id, "ann@shop"))
        await session.rollback()

    assert await stored(app, db) == {"customers": ["ann@example.com"], "orders": []}, (
        "a service committed what its caller rolled back"
    )

    async with db.session() as session:
        order = await outcome(shop.OrderService(session).place(ann.id, "milk"))
        number = getattr(order, "id", None)
        await outcome(shop.OrderService(session).place(ann.id, "no such product"))
        await session.commit()

    assert number, f"`place` gave its caller no id, but {order!r}"
    assert "milk" in (await stored(app, db))["orders"], "stored orders, after their caller's commit"


@pytest.mark.on_postgresql_too("two writers at once are possible there")
async def test_let_the_database_decide_uniqueness(app, start, db):
    """Who comes second, even by a hair, is told which field is taken; the caller may go on."""
    shop = app.service
    client = await start(hasher=str.upper)
    ann = shop.Customer(email="ann@example.com", card="email voucher 1", password_hash="-")
    bob = shop.Customer(email="bob@example.com", card="email voucher 2", password_hash="-")
    await db.add(ann, bob, shop.Stock(sku="tea", left=1))
    new = {"email": "eve@example.com", "password": "secret", "card": "email voucher 3"}

    replies = [
        await client.post("/customers", json=new | {"email": ann.email}),
        await client.post("/customers", json=new | {"card": ann.card}),
        await client.patch(f"/customers/{bob.id}", json={"email": ann.email}),
    ]

    assert [told(reply) for reply in replies] == [
        "email is taken",
        "card is taken",
        "email is taken",
    ], "the replies to a taken e-mail, a taken card, and a change to a taken e-mail"

    async with db.rival(text(RIVAL.format("eve@example.com"))):
        raced = await client.post("/customers", json=new)

    assert raced.status_code in {201, 409}, "the reply to one of two who took an e-mail at once"

    async with db.rival(text(RIVAL.format("joe@example.com"))):
        changed = await client.patch(f"/customers/{bob.id}", json={"email": "joe@example.com"})

    assert changed.status_code in {200, 409}, "the reply to one of two who took an e-mail at once"

    async with db.session() as session:
        await shop.OrderService(session).place(ann.id, "tea")
        await outcome(shop.CustomerService(session, str.upper).register(ann.email, "secret"))
        await outcome(shop.CustomerService(session).change_email(bob.id, ann.email))
        await session.commit()

    assert (await stored(app, db))["orders"] == ["tea"], (
        "the orders that are stored after an order, two refusals and the caller's commit"
    )

    async with db.session() as session:
        no_hash = await outcome(shop.CustomerService(session, lambda _: None).register("x", "y"))

    assert not isinstance(no_hash, shop.TakenError), (
        f"a customer without a password hash was refused with: {no_hash}"
    )


async def test_compose_services_in_one_transaction(app, start, db):
    """A checkout stores the account and its order in one commit, or neither."""
    shop = app.service
    client = await start(hasher=str.upper)
    await db.add(shop.Stock(sku="tea", left=1))
    tea = {"email": "ann@shop", "password": "secret", "sku": "tea"}

    replies = [
        await client.post("/checkout", json=tea),
        await client.post("/checkout", json=tea | {"email": "bob@shop"}),
    ]

    assert {
        "told": [reply.status_code for reply in replies],
        **await stored(app, db),
        "commits": len(db.order("COMMIT")),
    } == {"told": [201, 409], "customers": ["ann@shop"], "orders": ["tea"], "commits": 1}, (
        "what two checkouts of one piece of tea left"
    )
