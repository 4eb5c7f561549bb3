"""Checks of the topic repository-pattern."""

import asyncio

ADA = {"customer": "ada"}


def ids(reply):
    """The ids that a search answered, or its status where it did not."""
    return (
        [order["id"] for order in reply.json()] if reply.status_code == 200 else reply.status_code
    )


async def test_flush_never_commit(app, db):
    """An added order has its id at once, and is stored only when the caller commits."""
    async with db.session() as session:
        orders = app.OrderRepository(session, "ada")
        order = app.Order(lines=[app.OrderLine(sku="tea", price=7)])

        await orders.add(order)
        numbered = order.id is not None
        await orders.change(order, {"note": "ring twice"})
        await orders.cancel(order.id)

        assert (numbered, await db.count(app.Order)) == (True, 0), "only the caller may commit"


async def test_return_models_or_none(app, db):
    """No open order is None; an open order is an object whose changes the caller can store."""
    await db.add(app.Order(customer="ada"))

    async with db.session() as session:
        [missing] = await asyncio.gather(
            app.OrderRepository(session, "ben").cart(), return_exceptions=True
        )
        cart = await app.OrderRepository(session, "ada").cart()

        assert (missing, isinstance(cart, app.Order)) == (None, True), "no answer for the caller"
        cart.note = "a gift"
        await session.commit()

    assert [order.note for order in await db.rows(app.Order)] == ["a gift"], "the change is lost"


async def test_load_what_the_caller_reads(app, db):
    """An order has its lines even where the session knew it before; a list loads no lines."""
    order = app.Order(customer="ada", lines=[app.OrderLine(sku="tea", price=7)])
    await db.add(order)

    async with db.session() as session:
        orders = app.OrderRepository(session, "ada")
        with db.statements() as sent:
            listed = await orders.search("", "")
        for_nothing = [sql for sql in sent if "order_lines" in sql]
        shown = await orders.get(order.id)

        skus = [line.sku for line in shown.lines] if shown in listed else "not found"
        assert (skus, for_nothing) == (["tea"], []), "loaded too little or too much"


async def test_scope_queries_to_the_owner(app, client, db):
    """Nobody finds, changes or cancels another customer's order."""
    mine = app.Order(customer="ada", address="tea lane")
    other = app.Order(customer="ben", address="tea lane")
    await db.add(mine, other)

    found = await client.get("/orders", params={"term": "tea"}, headers=ADA)
    changed = await client.patch(f"/orders/{other.id}", json={"note": "ada's"}, headers=ADA)
    cancelled = await client.delete(f"/orders/{mine.id}", headers=ADA)
    refused = await client.delete(f"/orders/{other.id}", headers=ADA)

    assert ids(found) == [mine.id], "a search found Ben's order"
    assert (
        [reply.status_code for reply in (changed, cancelled, refused)],
        [(order.note, order.status) for order in await db.rows(app.Order)],
    ) == ([404, 204, 404], [("", "cancelled"), ("", "open")]), "Ada wrote into Ben's order"


async def test_name_the_fields_that_may_change(app, client, db):
    """A change writes the note and the address, and nothing else that it names."""
    order = app.Order(customer="ada", total=7)
    await db.add(order)

    changed = await client.patch(f"/orders/{order.id}", json={"note": "ring twice"}, headers=ADA)
    await client.patch(f"/orders/{order.id}", json={"address": "tea lane"}, headers=ADA)
    await client.patch(f"/orders/{order.id}", json={"status": "paid"}, headers=ADA)
    await client.patch(f"/orders/{order.id}", json={"customer": "ben"}, headers=ADA)
    [stored] = await db.rows(app.Order)

    assert (changed.status_code, stored.note, stored.address) == (200, "ring twice", "tea lane")
    assert (stored.status, stored.customer) == ("open", "ada"), "the client chose the field"


async def test_reach_parts_through_their_root(app, client, db):
    """A line changes only as part of its own customer's order, and the total keeps in step."""
    mine = app.Order(customer="ada", total=7, lines=[app.OrderLine(sku="tea", price=7)])
    other = app.Order(customer="ben", total=9, lines=[app.OrderLine(sku="pot", price=9)])
    await db.add(mine, other)

    url = f"/orders/{mine.id}/lines"
    changed = await client.put(f"{url}/{mine.lines[0].id}?quantity=3", headers=ADA)
    refused = await client.put(f"{url}/{other.lines[0].id}?quantity=5", headers=ADA)

    assert (
        refused.status_code,
        [line.quantity for line in await db.rows(app.OrderLine)],
    ) == (404, [3, 1]), "Ada changed a line of Ben's order"
    assert (
        changed.status_code,
        [order.total for order in await db.rows(app.Order)],
    ) == (204, [21, 9]), "the total does not follow the lines"


async def test_bind_every_value(app, client, db):
    """A term is found as it is typed, and nothing that a client sends becomes SQL."""
    half = app.Order(customer="ada", note="50% off \\o/", total=9)
    gram = app.Order(customer="ada", note="500 g of tea", address="quay", total=7)
    await db.add(half, gram)

    by_total = await client.get("/orders", params={"sort": "total"}, headers=ADA)
    backslash = await client.get("/orders", params={"term": "\\o"}, headers=ADA)
    percent = await client.get("/orders", params={"term": "50%"}, headers=ADA)
    unknown = await client.get("/orders", params={"sort": "metadata"}, headers=ADA)
    with db.statements() as sent:
        await client.get("/orders", params={"term": "quay"}, headers=ADA)
        await client.get("/orders", params={"sort": "length(note)"}, headers=ADA)
    written = [sql for sql in sent if "quay" in sql or "length(" in sql]

    assert (ids(by_total), ids(backslash), ids(percent)) == (
        [gram.id, half.id],
        [half.id],
        [half.id],
    ), "a term is more than its own text"
    assert unknown.status_code != 500, "a sort key may be anything"
    assert written == [], "the client wrote a part of the statement"
