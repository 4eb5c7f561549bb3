"""The checks of sqlalchemy-sessions: when a session opens, commits and closes."""

import asyncio
from collections import defaultdict
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest
from httpx2 import Response
from sqlalchemy import delete, select, text, update
from sqlalchemy.exc import IntegrityError


async def hang_up(request: Coroutine[Any, Any, Response], when: asyncio.Event) -> str:
    """Sends a request and cancels its task once `when` is set; how it ended."""
    sent, ready = asyncio.create_task(request), asyncio.create_task(when.wait())
    await asyncio.wait({sent, ready}, return_when=asyncio.FIRST_COMPLETED)
    sent.cancel()
    ready.cancel()
    await asyncio.wait({sent, ready})
    return "hung up" if sent.cancelled() else f"told {sent.result().status_code}"


async def test_commit_before_reply(app, client, db):
    """A client is told 201 only when its order is really stored."""
    await db.add(app.Stock(sku="tea", price=5, left=9))

    good = await client.post("/orders/tea")

    assert {"told": good.status_code, "stored": await db.count(app.Order)} == {
        "told": 201,
        "stored": 1,
    }, "a good order must be stored, and its client told so"

    with db.commits_fail():
        lost = await client.post("/orders/tea")

    assert lost.status_code == 500, "this order is not stored, and the client must be told so"


async def test_commit_explicitly(app, start, db):
    """An order is stored whole and answered with 201, or neither, whatever a plug-in swallows."""

    async def reward(session, order):
        if order.sku == "failing":
            raise RuntimeError("no reward today")
        if order.sku == "swallowing":
            session.add(app.Voucher(code="WELCOME"))
            with suppress(IntegrityError):
                await session.flush()

    async def outcome(reply):
        skus = [order.sku for order in await db.rows(app.Order)]
        stored = reply.url.path.removeprefix("/orders/") in skus
        return f"told {reply.status_code}, order {'stored' if stored else 'not stored'}"

    client = await start(reward=reward)
    for sku in ("good", "failing", "swallowing"):
        await db.add(app.Stock(sku=sku, price=5, left=9))
    await db.add(app.Voucher(code="WELCOME"))

    good = await client.post("/orders/good")

    assert await outcome(good) == "told 201, order stored"

    failed = await client.post("/orders/failing")

    assert await outcome(failed) == "told 500, order not stored", "the plug-in raised an error"

    swallowed = await client.post("/orders/swallowing")

    assert await outcome(swallowed) in ("told 500, order not stored", "told 201, order stored"), (
        "the plug-in swallowed the error of its flush"
    )


async def test_keep_objects_after_commit(app, client, db):
    """What a route has loaded it can still read after its commit, and after its rollback."""
    order = app.Order(sku="tea", price=5)
    await db.add(order)

    paid = await client.post(f"/orders/{order.id}/payment")

    assert (paid.status_code, paid.text) == (201, '"free of 5"'), (
        "the order's price is read after the commit"
    )

    again = await client.post(f"/orders/{order.id}/payment")

    assert (again.status_code, again.text) == (
        409,
        '{"detail":"the order of tea is paid already"}',
    ), "the order is named after the rollback"


@pytest.mark.on_postgresql_too("its driver refuses two statements at once")
async def test_open_one_session_a_task(app, start, db):
    """A delivery that fails leaves nothing of its own, and takes nothing from those beside it."""

    async def supplier(sku):
        return app.Delivery(number=f"from {sku}", sku=sku, count=12)

    client = await start(supplier=supplier)
    for sku in ("coffee", "milk", "tea"):
        await db.add(app.Stock(sku=sku, price=5, left=0))
    await db.add(app.Delivery(number="from milk", sku="milk", count=0))

    answer = await client.post("/restock", json=["tea", "milk", "coffee"])

    left = {stock.sku: stock.left for stock in await db.rows(app.Stock)}
    assert {"told": answer.status_code, **left} == {
        "told": 200,
        "coffee": 12,
        "milk": 0,
        "tea": 12,
    }, "only the milk, delivered twice, may be missing"


async def test_open_an_own_session_in_background(app, start, db):
    """Work after the reply stores what it did; when it fails it undoes and keeps nothing."""
    mailed = []

    async def mail(invoice_id):
        mailed.append(invoice_id)
        if len(mailed) == 2:
            raise ConnectionError("no mail today")
        if len(mailed) == 3:
            await db.execute(delete(app.Invoice).where(app.Invoice.id == invoice_id))

    async def invoices():
        return ["sent" if invoice.sent else "not sent" for invoice in await db.rows(app.Invoice)]

    client = await start(mail=mail)
    order = app.Order(sku="tea", price=5)
    await db.add(order)

    await client.post(f"/orders/{order.id}/invoice")

    assert await invoices() == ["sent"], "an invoice must be noted as sent when its mail went out"

    await client.post(f"/orders/{order.id}/invoice")

    assert (await invoices())[1:] == ["not sent"], "an invoice must stay when its mail fails"

    await client.post(f"/orders/{order.id}/invoice")

    assert db.checked_out() == 0, (
        "connections still in use after the invoice was deleted while its mail went out"
    )


@pytest.mark.on_postgresql_too("connections are slower to come by there")
async def test_hold_connections_briefly(app, start, db):
    """No connection is held while the app waits for others, or once its client has hung up."""
    in_use, sessions, busy = defaultdict(set), [], asyncio.Event()

    async def tick():
        in_use["tick"].add(db.checked_out())
        await db.execute(update(app.Order).values(status="paid"))

    async def charge(price):
        in_use["charge"].add(db.checked_out())
        return "receipt"

    async def supplier(sku):
        in_use["supplier"].add(db.checked_out())
        return app.Delivery(number=f"from {sku}", sku=sku, count=12)

    async def mail(invoice_id):
        in_use["mail"].add(db.checked_out())

    async def reward(session, order):
        sessions.append(session)  # else the garbage collector might give the connection back
        busy.set()
        await asyncio.Event().wait()

    client = await start(tick=tick, charge=charge, supplier=supplier, mail=mail, reward=reward)
    order = app.Order(sku="tea", price=5)
    await db.add(order, app.Stock(sku="tea", price=5, left=9))

    with db.each_part(lambda: in_use["reader"].add(db.checked_out())):
        await client.get(f"/orders/{order.id}/status")

    assert dict(in_use) == {"reader": {0}, "tick": {0}}, (
        "connections in use while the stream waited for its slow reader, and for `tick`"
    )

    await client.post(f"/orders/{order.id}/payment")

    assert in_use["charge"] == {0}, "connections in use during `charge`, in the route `pay`"

    await client.post("/restock", json=["tea"])

    assert in_use["supplier"] == {0}, "connections in use during `supplier`, in the task `restock`"

    await client.post(f"/orders/{order.id}/invoice")

    assert in_use["mail"] == {0}, "connections in use during `mail`, in the task `send_invoice`"

    ended = await hang_up(client.post("/orders/tea"), when=busy)

    assert (ended, db.checked_out()) == ("hung up", 0), (
        "connections still in use after the client hung up during its order"
    )


@pytest.mark.sqlite_only("PostgreSQL locks the row that was read, SQLite the file that is written.")
async def test_begin_immediately_on_sqlite(app, client, db):
    """Two orders for the same tea at once are both counted."""
    await db.execute(text("PRAGMA journal_mode = WAL"))
    await db.add(app.Stock(sku="tea", price=5, left=9))

    async with db.rival(update(app.Stock).values(left=app.Stock.left - 1)):
        sold = await client.post("/orders/tea")

    assert {"told": sold.status_code, "left": await db.scalar(select(app.Stock.left))} == {
        "told": 201,
        "left": 7,
    }, "this order and the other connection's must both be counted"
