"""Checks of the topic repository-pattern."""

import asyncio

import pytest

ADA = {"customer": "ada"}


def ids(reply):
    """The ids that a search answered, or its status where it did not."""
    return (
        [order["id"] for order in reply.json()] if reply.status_code == 200 else reply.status_code
    )


async def answer(call):
    """None, or the class of what a method answers or raises."""
    [found] = await asyncio.gather(call, return_exceptions=True)
    return found and type(found).__name__


async def test_flush_never_commit(app, db):
    """A new order has its id at once, and nothing is stored until the caller commits."""
    order = app.Order(customer="ada", lines=[app.OrderLine(sku="tea", price=7)])

    async with db.session() as session:
        added = await app.OrderRepository(session, "ada").add(app.Order())
        result = {"has an id": added.id is not None, "orders stored": await db.count(app.Order)}

    assert result == {"has an id": True, "orders stored": 0}, (
        "the id is there, and the caller has not committed"
    )
    await db.add(order)

    async with db.session() as session:
        orders = app.OrderRepository(session, "ada")
        await orders.change(await orders.get(order.id), {"note": "ring twice"})
        await orders.set_quantity(order.id, order.lines[0].id, 3)
        await orders.cancel(order.id)
    [stored], [line] = await db.rows(app.Order), await db.rows(app.OrderLine)

    assert {"note": stored.note, "status": stored.status, "quantity": line.quantity} == {
        "note": "",
        "status": "open",
        "quantity": 1,
    }, "the caller never committed, so nothing may have changed"


async def test_return_models_or_none(app, db):
    """What is missing is None; an open order is an object whose changes the caller can store."""
    await db.add(app.Order(customer="ada"))

    async with db.session() as session:
        orders = app.OrderRepository(session, "ben")
        calls = {"cart": (), "get": (9,), "cancel": (9,), "set_quantity": (9, 9, 2)}
        missing = {name: await answer(getattr(orders, name)(*calls[name])) for name in calls}

    assert missing == dict.fromkeys(calls), "what is missing is None, not an exception"

    async with db.session() as session:
        cart = await app.OrderRepository(session, "ada").cart()
        if isinstance(cart, app.Order):
            cart.note = "a gift"
        await session.commit()
    [stored] = await db.rows(app.Order)

    assert {"cart": type(cart).__name__, "stored note": stored.note} == {
        "cart": "Order",
        "stored note": "a gift",
    }, "the caller changed the order that it found, and committed"


async def test_load_what_the_caller_reads(app, client, db):
    """An order has its lines even where the session knew it before; a list loads no lines."""
    order = app.Order(customer="ada", lines=[app.OrderLine(sku="tea", price=7)])
    await db.add(order)

    with db.statements() as sent:
        await client.get("/orders", headers=ADA)
    for_nothing = ["SELECT … FROM order_lines" for sql in sent if "order_lines" in sql]

    assert for_nothing == [], "a list shows no lines, so it should load none"

    async with db.session() as session:
        orders = app.OrderRepository(session, "ada")
        listed = await orders.search("", "")
        shown = await orders.get(order.id)
    lines = [line.sku for line in vars(shown).get("lines", ())] if shown else None

    assert {"the listed order": shown in listed, "lines": lines} == {
        "the listed order": True,
        "lines": ["tea"],
    }, "the order of the list, lines loaded: else reading them raises MissingGreenlet"


async def test_scope_queries_to_the_owner(app, client, db):
    """Nobody finds, changes or cancels another customer's order, by a route or in a script."""
    mine = app.Order(customer="ada", address="tea lane")
    other = app.Order(customer="ben", note="tea", address="tea lane")
    await db.add(mine, other)

    found = await client.get("/orders", params={"term": "tea"}, headers=ADA)

    assert ids(found) == [mine.id], "a search must find Ada's order and not Ben's"

    changed = await client.patch(f"/orders/{other.id}", json={"note": "ada's"}, headers=ADA)
    note = (await db.rows(app.Order))[1].note

    assert {"reply": changed.status_code, "Ben's note": note} == {
        "reply": 404,
        "Ben's note": "tea",
    }, "for Ada there is no order with the number of Ben's"

    async with db.session() as session:
        orders = app.OrderRepository(session, "ada")
        cancelled = [await orders.cancel(order.id) for order in (mine, other)]
        await session.commit()
    result = {order.customer: order.status for order in await db.rows(app.Order)}

    assert result | {"answers": [order and order.id for order in cancelled]} == {
        "ada": "cancelled",
        "ben": "open",
        "answers": [mine.id, None],
    }, "Ada's script cancels both orders and commits: Ben's is no order of hers"


async def test_name_the_fields_that_may_change(app, client, db):
    """A change writes the note and the address as they are sent, and no other name."""
    order = app.Order(customer="ada", note="ring twice", address="tea lane")
    await db.add(order)

    await client.patch(f"/orders/{order.id}", json={"note": ""}, headers=ADA)
    [stored] = await db.rows(app.Order)

    assert {"note": stored.note, "address": stored.address} == {
        "note": "",
        "address": "tea lane",
    }, 'only {"note": ""} was sent: it is stored, and a name that is not sent keeps its value'

    sent = {"address": "quay", "status": "paid", "customer": "ben", "add_up": "never"}
    async with db.session() as session:
        orders = app.OrderRepository(session, "ada")
        changed = await orders.change(await orders.get(order.id), sent)
        await session.commit()
    [stored] = await db.rows(app.Order)

    assert {name: getattr(stored, name) for name in ("address", "status", "customer")} | {
        "add_up": type(changed.add_up).__name__
    } == {
        "address": "quay",
        "status": "open",
        "customer": "ada",
        "add_up": "method",
    }, "all four were sent, and only the address may change"


async def test_reach_parts_through_their_root(app, client, db):
    """A line changes only as part of its own customer's order, and the total keeps in step."""
    lines = {sku: app.OrderLine(sku=sku, price=7) for sku in ("tea", "pot", "cup", "jug")}
    first = app.Order(customer="ada", total=14, lines=[lines["tea"], lines["pot"]])
    second = app.Order(customer="ada", total=7, lines=[lines["cup"]])
    other = app.Order(customer="ben", total=7, lines=[lines["jug"]])
    await db.add(first, second, other)

    async with db.session() as session:
        orders = app.OrderRepository(session, "ada")
        pairs = [(first, "cup"), (first, "jug"), (other, "jug")]
        refused = [await orders.set_quantity(o.id, lines[sku].id, 5) for o, sku in pairs]
        await session.commit()
    result = {line.sku: line.quantity for line in await db.rows(app.OrderLine)}

    assert result | {"answers": [order and order.id for order in refused]} == {
        "tea": 1,
        "pot": 1,
        "cup": 1,
        "jug": 1,
        "answers": [None, None, None],
    }, "the cup is a line of Ada's other order, the jug of Ben's"

    url = f"/orders/{first.id}/lines/{lines['tea'].id}"
    changed = await client.put(url, params={"quantity": 3}, headers=ADA)
    tea, total = (await db.rows(app.OrderLine))[0], (await db.rows(app.Order))[0].total

    assert {"reply": changed.status_code, "quantity": tea.quantity, "total": total} == {
        "reply": 204,
        "quantity": 3,
        "total": 28,
    }, "the order is 3 tea and 1 pot, 7 each: its total is what all its lines cost"


@pytest.mark.on_postgresql_too("it checks the types of parameters")
async def test_bind_every_value(app, client, db):
    """A term is found as it is typed, and nothing that a client sends becomes SQL."""
    typed = app.Order(customer="ada", note="50% a_b 1/2\\3!4", address="quay", total=9)
    alike = app.Order(
        customer="ada", note="500 axb", address="500 axb", status="cancelled", total=7
    )
    await db.add(typed, alike)

    found = {
        term: ids(await client.get("/orders", params={"term": term}, headers=ADA))
        for term in ("50%", "a_b", "1/2\\3!4")
    }

    assert found == {term: [typed.id] for term in found}, "only order 1 holds these characters"

    with db.statements() as sent:
        await client.get("/orders", params={"term": "quay"}, headers=ADA)
    written = [sql.partition("WHERE")[2] for sql in sent if "quay" in sql]

    assert written == [], "the term stands in the statement: a value goes beside it"

    by_key = {
        key: ids(await client.get("/orders", params={"sort": key}, headers=ADA))
        for key in ("total", "status", "address", "metadata")
    }

    assert by_key == {
        "total": [alike.id, typed.id],
        "status": [alike.id, typed.id],
        "address": [typed.id, alike.id],
        "metadata": [typed.id, alike.id],
    }, "SORTS has total and status; any other key sorts by id"
