"""The checks of sqlalchemy-sessions: when a session opens, commits and closes."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError


async def hang_up(request: Coroutine[Any, Any, object], when: asyncio.Event) -> bool:
    """Sends a request and cancels its task once `when` is set; whether that ended it."""
    sent, ready = asyncio.create_task(request), asyncio.create_task(when.wait())
    await asyncio.wait({sent, ready}, return_when=asyncio.FIRST_COMPLETED)
    sent.cancel()
    ready.cancel()
    await asyncio.wait({sent, ready})
    return sent.cancelled()


async def test_commit_before_reply(app, client, db):
    """A client is told 201 only when its order is really stored."""
    await db.add(app.Stock(sku="tea", price=5, left=9))

    stored = await client.post("/orders/tea")
    with db.commits_fail():
        lost = await client.post("/orders/tea")

    assert stored.status_code == 201
    assert lost.status_code == 500, "the reply left before the commit"


async def test_commit_explicitly(app, start, db):
    """An order is stored whole and answered with 201, or neither, whatever a plug-in swallows."""

    async def reward(session, order):
        if order.sku == "failing":
            raise RuntimeError("no reward today")
        if order.sku == "swallowing":
            session.add(app.Voucher(code="WELCOME"))
            with suppress(IntegrityError):
                await session.flush()

    async def stored(sku):
        return sku in [order.sku for order in await db.rows(app.Order)]

    client = await start(reward=reward)
    for sku in ("good", "failing", "swallowing"):
        await db.add(app.Stock(sku=sku, price=5, left=9))
    await db.add(app.Voucher(code="WELCOME"))

    good = await client.post("/orders/good")

    assert (good.status_code, await stored("good")) == (201, True), "a good order was not stored"

    failed = await client.post("/orders/failing")

    assert (failed.status_code, await stored("failing")) == (500, False), "half an order was stored"

    told = await client.post("/orders/swallowing")

    assert (told.status_code, await stored("swallowing")) in [(500, False), (201, True)], (
        "told 201, but nothing was stored"
    )


async def test_keep_objects_after_commit(app, start, db):
    """What a route has loaded it can still read after its commit, and after its rollback."""
    charged = []

    async def charge(price):
        charged.append(price)
        return "receipt"

    client = await start(charge=charge)
    order = app.Order(sku="tea", price=5)
    await db.add(order)

    paid = await client.post(f"/orders/{order.id}/payment")

    assert (paid.status_code, charged) == (201, [5]), "the order could not be read after the commit"

    again = await client.post(f"/orders/{order.id}/payment")

    assert (again.status_code, "tea" in again.text) == (409, True), (
        "the order could not be named after the rollback"
    )


async def test_open_one_session_a_task(app, start, db):
    """A delivery that fails leaves nothing of its own, and takes nothing from those beside it."""

    async def supplier(sku):
        return app.Delivery(number=f"from {sku}", sku=sku, count=12)

    client = await start(supplier=supplier)
    for sku in ("coffee", "milk", "tea"):
        await db.add(app.Stock(sku=sku, price=5, left=0))
    await db.add(app.Delivery(number="from milk", sku="milk", count=0))

    answer = await client.post("/restock", json=["tea", "milk", "coffee"])

    assert (answer.status_code, {stock.sku: stock.left for stock in await db.rows(app.Stock)}) == (
        200,
        {"tea": 12, "milk": 0, "coffee": 12},
    ), "one task's failure was not its own"


async def test_open_an_own_session_in_background(app, start, db):
    """Work after the reply stores what it did; when it fails it undoes and keeps nothing."""
    mailed = []

    async def mail(invoice_id):
        mailed.append(invoice_id)
        if len(mailed) == 2:
            raise ConnectionError("no mail today")

    async def sent():
        return [invoice.sent for invoice in await db.rows(app.Invoice)]

    client = await start(mail=mail)
    order = app.Order(sku="tea", price=5)
    await db.add(order)

    asked = await client.post(f"/orders/{order.id}/invoice")

    assert (asked.status_code, await sent()) == (202, [True]), "the mail was sent, but not noted"

    unsent = await client.post(f"/orders/{order.id}/invoice")

    assert (unsent.status_code, (await sent())[1:], db.checked_out()) == (202, [False], 0), (
        "the failed mail took the invoice with it, or kept a connection"
    )


async def test_hold_connections_briefly(app, start, db):
    """No connection is held while the app waits for others, or once its client has hung up."""
    at_tick, at_charge, sessions, busy = [], [], [], asyncio.Event()

    async def tick():
        at_tick.append(db.checked_out())
        await db.execute(update(app.Order).values(status="paid"))

    async def charge(price):
        at_charge.append(db.checked_out())
        return "receipt"

    async def reward(session, order):
        sessions.append(session)  # else the garbage collector might give the connection back
        busy.set()
        await asyncio.Event().wait()

    client = await start(tick=tick, charge=charge, reward=reward)
    order = app.Order(sku="tea", price=5)
    await db.add(order, app.Stock(sku="tea", price=5, left=9))

    followed = await client.get(f"/orders/{order.id}/status")

    assert (followed.text.split(), {*at_tick}) == (["data:", "new", "data:", "paid"], {0}), (
        "held between two looks at the status"
    )

    paid = await client.post(f"/orders/{order.id}/payment")

    assert (paid.status_code, at_charge) == (201, [0]), "held while the provider was asked"

    gone = await hang_up(client.post("/orders/tea"), when=busy)

    assert (gone, db.checked_out()) == (True, 0), "held after the client had gone"


@pytest.mark.sqlite_only("PostgreSQL locks the row that was read, SQLite the file that is written.")
async def test_begin_immediately_on_sqlite(app, client, db):
    """Two orders for the same tea at once are both counted."""
    await db.execute(text("PRAGMA journal_mode = WAL"))
    await db.add(app.Stock(sku="tea", price=5, left=9))

    async with db.rival(update(app.Stock).values(left=app.Stock.left - 1)):
        sold = await client.post("/orders/tea")

    assert (sold.status_code, [stock.left for stock in await db.rows(app.Stock)]) == (201, [7]), (
        "another order came between its reading and its writing"
    )
