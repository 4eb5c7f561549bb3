"""Checks of the service layer: what app.service promises to callers with and without HTTP."""

import asyncio
import importlib
import sys
import threading
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from types import ModuleType
from unittest.mock import patch

from sqlalchemy import text

from proven_backend.database import Observer

EMAIL, CARD = '{"detail":"email is taken"}', '{"detail":"card is taken"}'
RIVAL = "INSERT INTO customers (email, password_hash) VALUES ('{}', '-') ON CONFLICT DO NOTHING"


async def stored(app: ModuleType, db: Observer) -> tuple[list[str], list[str]]:
    """The e-mails of the customers and the products of the orders that are committed."""
    customers = await db.rows(app.service.Customer)
    orders = await db.rows(app.service.Order)
    return [customer.email for customer in customers], [order.sku for order in orders]


async def outcome(call: Awaitable[object]) -> object:
    """What the call returns or raises."""
    [what] = await asyncio.gather(call, return_exceptions=True)
    return what


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
        isinstance(found, shop.Customer),
        isinstance(missing, shop.NotFoundError),
        isinstance(sold_out, shop.SoldOutError),
    ] == [True, True, True], f"got {missing!r} and {sold_out!r}"


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
        worked = await outcome(work())

    assert (isinstance(worked, ImportError), await stored(app, db)) == (
        False,
        (["ann@example.com"], ["tea"]),
    ), f"the service needs FastAPI: {worked!r}"


async def test_keep_slow_work_off_the_loop(app, start, db):
    """While a password is hashed, the event loop serves others."""
    loop, loops_thread = asyncio.get_running_loop(), threading.get_ident()
    others_served = list[bool]()

    def hasher(password: str) -> str:
        served = threading.Event()
        loop.call_soon_threadsafe(served.set)
        others_served.append(threading.get_ident() != loops_thread and served.wait(1))
        return f"hash of {password}"

    client = await start(hasher=hasher)

    reply = await client.post("/customers", json={"email": "ann@example.com", "password": "secret"})

    assert (reply.status_code, others_served) == (201, [True]), "the loop waited for the hash"


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

    assert await stored(app, db) == (["ann@example.com"], []), (
        "a service committed what its caller rolled back"
    )

    async with db.session() as session:
        await outcome(shop.OrderService(session).place(ann.id, "milk"))
        await outcome(shop.OrderService(session).place(ann.id, "no such product"))
        await session.commit()

    assert "milk" in (await stored(app, db))[1], "a service undid what its caller committed"


async def test_let_the_database_decide_uniqueness(app, start, db):
    """Who comes second, even by a hair, is told which field is taken; the caller may go on."""
    shop = app.service
    client = await start(hasher=str.upper)
    ann = shop.Customer(email="ann@example.com", card="one", password_hash="-")
    bob = shop.Customer(email="bob@example.com", card="two", password_hash="-")
    await db.add(ann, bob, shop.Stock(sku="tea", left=1))
    new = {"email": "eve@example.com", "password": "secret", "card": "three"}

    replies = [
        await client.post("/customers", json=new | {"email": ann.email}),
        await client.post("/customers", json=new | {"card": ann.card}),
        await client.patch(f"/customers/{bob.id}", json={"email": ann.email}),
    ]

    assert [reply.text for reply in replies] == [EMAIL, CARD, EMAIL], "not told which is taken"

    async with db.rival(text(RIVAL.format("eve@example.com"))):
        raced = await client.post("/customers", json=new)

    assert raced.status_code in {201, 409}, f"the later of two got {raced.status_code}"

    async with db.session() as session:
        known = await session.get_one(shop.Customer, bob.id)
        async with db.rival(text(RIVAL.format("joe@example.com"))):
            change = shop.CustomerService(session).change_email(known.id, "joe@example.com")
            changed = await outcome(change)
            await session.rollback()

    assert isinstance(changed, shop.Customer | shop.TakenError), f"the later got {changed!r}"

    async with db.session() as session:
        await shop.OrderService(session).place(ann.id, "tea")
        await outcome(shop.CustomerService(session, str.upper).register(ann.email, "secret"))
        await outcome(shop.CustomerService(session).change_email(bob.id, ann.email))
        await session.commit()

    assert (await stored(app, db))[1] == ["tea"], "the refusal took the caller's work with it"

    async with db.session() as session:
        no_hash = await outcome(shop.CustomerService(session, lambda _: None).register("x", "y"))

    assert not isinstance(no_hash, shop.TakenError), f"a row without a hash is told {no_hash}"


async def test_compose_services_in_one_transaction(app, start, db):
    """A checkout stores the account and its order in one commit, or neither."""
    shop = app.service
    client = await start(hasher=str.upper)
    await db.add(shop.Stock(sku="tea", left=1))
    tea = {"email": "ann@example.com", "password": "secret", "sku": "tea"}

    replies = [
        await client.post("/checkout", json=tea),
        await client.post("/checkout", json=tea | {"email": "bob@example.com"}),
    ]

    assert (
        [reply.status_code for reply in replies],
        await stored(app, db),
        db.order("COMMIT"),
    ) == ([201, 409], (["ann@example.com"], ["tea"]), ["COMMIT"]), (
        "an account was committed without its order"
    )
