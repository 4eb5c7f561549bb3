"""Checks of the service layer: what app.service promises to callers with and without HTTP."""

import asyncio
import importlib
import sys
import threading
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from sqlalchemy import text

RIVAL = "INSERT INTO customers (email, password_hash) VALUES ('{}', '-') ON CONFLICT DO NOTHING"


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
        outcomes = {
            "a customer": await outcome(shop.CustomerService(session).get(ann.id)),
            "no such customer": await outcome(shop.CustomerService(session).get(ann.id + 1)),
            "sold out": await outcome(shop.OrderService(session).place(ann.id, "cake")),
        }
    refused = [what for what, how in outcomes.items() if isinstance(how, shop.ShopError)]

    assert refused == ["no such customer", "sold out"], f"got {outcomes}"


async def test_stay_free_of_the_framework(app, start, db):
    """A worker without FastAPI imports the service and uses all of it."""
    await start(hasher=str.upper)
    await db.add(app.service.Stock(sku="tea", left=1))

    async def work() -> str:
        shop = importlib.import_module(app.service.__name__)
        async with db.session() as session:
            order = await shop.CheckoutService(session, str.upper).buy("ann@shop", "secret", "tea")
            customers = shop.CustomerService(session, str.upper)
            customer = await customers.change_email(order.customer_id, "ann@example.com")
            await outcome(customers.get(customer.id + 1))
            await session.commit()
        return "done"

    with uninstalled("fastapi", "starlette", package=app.__package__):
        worked = await outcome(work())
    stored = [customer.email for customer in await db.rows(app.service.Customer)]

    assert (worked, stored) == ("done", ["ann@example.com"]), "the service needs FastAPI"


async def test_join_the_callers_transaction(app, start, db):
    """What services do is stored when their caller commits, and gone when it rolls back."""
    shop = app.service
    await start(hasher=str.upper)
    ann = shop.Customer(email="ann@example.com", password_hash="-")
    await db.add(ann, shop.Stock(sku="tea", left=2), shop.Stock(sku="cake", left=0))

    async with db.session() as session:
        await outcome(shop.OrderService(session).place(ann.id, "tea"))
        await outcome(shop.CustomerService(session, str.upper).register("bob@shop", "secret"))
        await session.rollback()
    rolled_back = (await db.count(shop.Order), await db.count(shop.Customer))
    async with db.session() as session:
        await outcome(shop.OrderService(session).place(ann.id, "tea"))
        await outcome(shop.OrderService(session).place(ann.id, "cake"))
        await session.commit()
    committed = await db.count(shop.Order)

    assert (rolled_back, committed) == ((0, 1), 1), "a service ended its caller's transaction"


async def test_let_the_database_decide_uniqueness(app, start, db):
    """Who comes second, even by a hair, is told which field is taken; the caller may go on."""
    shop = app.service
    client = await start(hasher=str.upper)
    ann = shop.Customer(email="ann@example.com", card="one", password_hash="-")
    bob = shop.Customer(email="bob@example.com", card="two", password_hash="-")
    await db.add(ann, bob, shop.Stock(sku="tea", left=1))
    new = {"email": "eve@example.com", "password": "secret", "card": "three"}

    same_email = await client.post("/customers", json=new | {"email": ann.email})
    same_card = await client.post("/customers", json=new | {"card": ann.card})
    same_change = await client.patch(f"/customers/{bob.id}", json={"email": ann.email})
    told = [reply.text for reply in (same_email, same_card, same_change)]

    email, card = '{"detail":"email is taken"}', '{"detail":"card is taken"}'
    assert told == [email, card, email], "the refusal does not name the field"

    async with db.rival(text(RIVAL.format("eve@example.com"))):
        raced = await client.post("/customers", json=new)
    async with db.rival(text(RIVAL.format("joe@example.com"))):
        changed = await client.patch(f"/customers/{bob.id}", json={"email": "joe@example.com"})

    assert (raced.status_code in {201, 409}, changed.status_code in {200, 409}) == (True, True), (
        f"the later of two answered {raced.status_code} and {changed.status_code}"
    )

    async with db.session() as session:
        await shop.OrderService(session).place(ann.id, "tea")
        await outcome(shop.CustomerService(session, str.upper).register(bob.email, "secret"))
        await outcome(shop.CustomerService(session).change_email(bob.id, ann.email))
        await session.commit()

    assert await db.count(shop.Order) == 1, "the refusal took the caller's work with it"


async def test_keep_slow_work_off_the_loop(app, start, db):
    """While a password is hashed, the thread of the event loop serves others."""
    threads = list[int]()

    def hasher(password: str) -> str:
        threads.append(threading.get_ident())
        return f"hash of {password}"

    client = await start(hasher=hasher)

    registered = await client.post("/customers", json={"email": "ann@shop", "password": "secret"})
    stored = [customer.password_hash for customer in await db.rows(app.service.Customer)]
    on_the_loop = threading.get_ident() in threads

    assert (registered.status_code, stored) == (201, ["hash of secret"])
    assert not on_the_loop, "the event loop did the hashing itself"


async def test_compose_services_in_one_transaction(app, start, db):
    """A checkout stores the account and its order in one commit, or neither."""
    shop = app.service
    client = await start(hasher=str.upper)
    await db.add(shop.Stock(sku="tea", left=1))
    tea = {"email": "ann@example.com", "password": "secret", "sku": "tea"}

    bought = await client.post("/checkout", json=tea)
    commits = db.order("COMMIT")
    refused = await client.post("/checkout", json=tea | {"email": "bob@example.com"})
    customers = [customer.email for customer in await db.rows(shop.Customer)]

    assert (bought.status_code, refused.status_code) == (201, 409)
    assert (customers, commits) == (["ann@example.com"], ["COMMIT"]), (
        "the account was committed without its order"
    )
