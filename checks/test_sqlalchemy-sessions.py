"""The checks of sqlalchemy-sessions: when a session opens, commits and closes."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError


async def hang_up(request: Coroutine[Any, Any, object], when: asyncio.Event) -> None:
    """Sends a request, and hangs up once `when` is set: its task is cancelled, as a server does."""
    sent, ready = asyncio.create_task(request), asyncio.create_task(when.wait())
    await asyncio.wait({sent, ready}, return_when=asyncio.FIRST_COMPLETED)
    sent.cancel()
    ready.cancel()
    await asyncio.wait({sent, ready})


async def test_commit_before_reply(app, client, db):
    """A client is told 201 only when its order is really stored."""
    await db.add(app.Stock(sku="tea", price=5, left=9))

    stored = await client.post("/orders/tea")
    with db.commits_fail():
        lost = await client.post("/orders/tea")

    assert stored.status_code == 201
    assert lost.status_code == 500, "the reply left before the commit"


async def test_commit_explicitly(app, start, db):
    """An order that broke on the way is neither half stored nor answered with 201."""
    skus = ["broken", "failed", "good"]
    await db.add(*[app.Stock(sku=sku, price=5, left=9) for sku in skus], app.Voucher(code="HI"))

    async def reward(session, order):
        if order.sku == "broken":
            session.add(app.Voucher(code="HI"))
            with suppress(IntegrityError):
                await session.flush()
        if order.sku == "failed":
            raise RuntimeError("no reward")

    client = await start(reward=reward)
    told = [sku for sku in skus if (await client.post(f"/orders/{sku}")).status_code == 201]

    assert "good" in told
    assert told == [order.sku for order in await db.rows(app.Order)], "told 201, and stored"


async def test_keep_objects_after_commit(app, start, db):
    """What a route has loaded it can still read after its commit, and after its rollback."""
    charged = []

    async def charge(price):
        charged.append(price)
        return "receipt"

    client = await start(charge=charge)
    await db.add(app.Order(id=1, sku="tea", price=5))

    paid = await client.post("/orders/1/payment")
    again = await client.post("/orders/1/payment")

    assert (paid.status_code, charged) == (201, [5]), "the order was not readable after the commit"
    assert (again.status_code, "tea" in again.text) == (409, True), "nor after the rollback"


async def test_open_one_session_a_task(app, start, db):
    """A delivery that fails leaves nothing of its own, and takes nothing from those beside it."""
    skus = ["tea", "coffee", "milk"]
    await db.add(*[app.Stock(sku=sku, price=5, left=0) for sku in skus])
    await db.add(app.Delivery(number="N-coffee", sku="coffee", count=0))

    async def supplier(sku):
        return app.Delivery(number=f"N-{sku}", sku=sku, count=12)

    client = await start(supplier=supplier)
    answer = await client.post("/restock", json=skus)
    left = {stock.sku: stock.left for stock in await db.rows(app.Stock)}

    assert left == {"tea": 12, "coffee": 0, "milk": 12}, "one task's failure was not its own"
    assert answer.json() == {"tea": True, "coffee": False, "milk": True}, "told otherwise"


async def test_open_an_own_session_in_background(app, start, db):
    """Work after the reply stores what it did, and keeps no connection when it fails."""
    mailed = []

    async def mail(invoice_id):
        mailed.append(invoice_id)
        if len(mailed) == 2:
            raise ConnectionError("no mail today")

    client = await start(mail=mail)
    await db.add(app.Order(id=1, sku="tea", price=5))

    await client.post("/orders/1/invoice")
    await client.post("/orders/1/invoice")
    sent = [invoice.sent for invoice in await db.rows(app.Invoice)]

    assert sent == [True, False], "what the background work stored"
    assert db.checked_out() == 0, "the failed background work kept its connection"


async def test_hold_connections_briefly(app, start, db):
    """No connection is held while the app waits for others, or after its client has gone."""
    held, waiting, kept = {}, asyncio.Event(), []

    async def charge(price):
        held["charge"] = db.checked_out()
        return "receipt"

    async def tick():
        held["tick"] = db.checked_out()
        await db.execute(update(app.Order).values(status="paid"))

    async def reward(session, order):
        kept.append(session)  # else the garbage collector would tidy up
        waiting.set()
        await asyncio.Event().wait()

    client = await start(charge=charge, tick=tick, reward=reward)
    await db.add(app.Order(id=1, sku="tea", price=5), app.Stock(sku="tea", price=5, left=9))

    followed = await client.get("/orders/1/status")
    await client.post("/orders/1/payment")
    await hang_up(client.post("/orders/tea"), when=waiting)
    held["gone"] = db.checked_out()

    assert held == {"tick": 0, "charge": 0, "gone": 0}, "connections held while waiting"
    assert followed.text.split() == ["data:", "new", "data:", "paid"]


@pytest.mark.sqlite_only("PostgreSQL locks the row that was read, SQLite the file that is written.")
async def test_begin_immediately_on_sqlite(app, client, db):
    """Two orders at once for the same tea are both counted."""
    await db.execute(text("PRAGMA journal_mode = WAL"))
    await db.add(app.Stock(sku="tea", price=5, left=9))

    async with db.rival(update(app.Stock).values(left=app.Stock.left - 1)):
        sold = await client.post("/orders/tea")

    assert (sold.status_code, [stock.left for stock in await db.rows(app.Stock)]) == (201, [7]), (
        "read before the lock, written after it"
    )
