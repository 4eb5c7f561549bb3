"""Checks of efficient-queries: what is asked, how often, and what comes back."""

import re
from contextlib import contextmanager
from datetime import date, timedelta
from itertools import cycle

from sqlalchemy import NullPool, delete, event, select, text, update
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import selectinload

DAY = date(2026, 11, 1)


@contextmanager
def sent_with_values(db):
    """The statements that the app sends in the block, each with its parameters."""
    sent = []

    def note(_connection, _cursor, sql, parameters, _context, _many):
        sent.append((sql, parameters))

    event.listen(db.engine.sync_engine, "before_cursor_execute", note)
    yield sent
    event.remove(db.engine.sync_engine, "before_cursor_execute", note)


async def once_more(db, sent, explain=False):
    """The rows of each statement that the app sent, or of its plan, to another connection."""
    postgresql = db.engine.dialect.name == "postgresql"
    words = ("EXPLAIN (COSTS OFF) " if postgresql else "EXPLAIN QUERY PLAN ") if explain else ""
    engine = create_async_engine(db.engine.url, poolclass=NullPool)
    async with engine.connect() as connection:
        for way in ("seqscan", "bitmapscan", "sort") if postgresql and explain else ():
            await connection.exec_driver_sql(f"SET enable_{way} = off")  # a table of 13 rows
        ran = [await connection.exec_driver_sql(words + sql, given) for sql, given in sent]
        return [list(result) for result in ran]


@contextmanager
def other_way_round(db):
    """On SQLite rows that nothing puts in order come the other way round at each second look."""
    turns = cycle(["on", "off"])

    def turn(connection, _record, _proxy):
        connection.cursor().execute(f"PRAGMA reverse_unordered_selects = {next(turns)}")

    if db.engine.dialect.name == "sqlite":
        event.listen(db.engine.sync_engine, "checkout", turn)
    yield


async def test_load_relations_in_bulk(app, client, db):
    """Five orders take as many statements as one, and show their customers and all lines."""
    orders = [
        app.Order(
            placed_on=DAY,
            customer=app.Customer(name=f"customer {number}"),
            lines=[app.OrderLine(sku=sku, price=3) for sku in ("tea", "pot")],
        )
        for number in range(6)
    ]
    await db.add(orders[0])

    with db.statements() as for_one:
        await client.get("/board")
    await db.add(*orders[1:])
    with db.statements() as for_five:
        reply = await client.get("/board")

    assert {"one order": len(for_one), "five orders": len(for_five)} == {
        "one order": len(for_one),
        "five orders": len(for_one),
    }, "how many statements a board took"

    shown = [
        " ".join([order["customer"]["name"], *(line["sku"] for line in order["lines"])])
        for order in (reply.json() if reply.status_code == 200 else [])
    ]

    assert shown == [f"customer {number} tea pot" for number in range(5)], (
        "the board has the five oldest of six orders, each with its customer and both lines"
    )

    with db.statements() as for_page:
        await client.get(f"/customers/{orders[0].customer.id}/orders")
    for_nothing = [sql.partition(" FROM ")[2] for sql in for_page if "order_lines" in sql]

    assert for_nothing == [], "a page of a customer's orders shows no lines: it should load none"


async def test_order_every_page(app, client, db):
    """Each product stands on exactly one page, whatever order the database finds rows in."""
    skus = [f"{number:02}" for number in range(12)]
    await db.add(
        *(
            app.Product(sku=sku, name="", price=int(sku < "06"), weight=1, supplier="s")
            for sku in skus
        )
    )
    index = text("CREATE INDEX ix_of_an_afternoon ON products (price, id DESC)")
    touched = update(app.Product).where(app.Product.sku < "03").values(left=9)

    with other_way_round(db):
        pages = [await client.get("/products?page=1")]
        await db.execute(index)
        await db.execute(touched)
        pages += [await client.get(f"/products?page={number}") for number in (2, 3)]
    products = [product for page in pages if page.status_code == 200 for product in page.json()]

    assert sorted(product["sku"] for product in products) == [
        f"{number:02}" for number in range(12)
    ], "the products of pages 1 to 3: an index was made and three products were updated between"
    assert [product["price"] for product in products] == [0] * 6 + [1] * 6, "cheapest first"


async def test_page_by_key(app, client, db):
    """What comes or goes between two pages repeats no order and hides none; an index finds each."""
    ada, ben = app.Customer(name="ada"), app.Customer(name="ben")
    await db.add(ada, ben)
    orders = [
        app.Order(customer_id=customer.id, placed_on=DAY + timedelta(days=number * 7 % 4))
        for number in range(13)
        for customer in (ada, ben)
    ]
    await db.add(*orders)
    mine = sorted((order.placed_on, order.id) for order in orders if order.customer_id == ada.id)
    place = {order_id: number for number, (_, order_id) in enumerate(reversed(mine), 1)}

    async def look(token):
        params = {"after": token} if token else {}
        reply = await client.get(f"/customers/{ada.id}/orders", params=params)
        page = reply.json() if reply.status_code == 200 else {"orders": [], "next": None}
        return [order["id"] for order in page["orders"]], page["next"]

    first, token = await look(None)
    await db.add(app.Order(customer_id=ada.id, placed_on=DAY + timedelta(days=9)))
    with sent_with_values(db) as sent:
        second, token = await look(token)
    await db.execute(delete(app.Order).where(app.Order.id.in_(second[-1:])))
    third, token = await look(token)

    pages = {
        number: [place.get(order, "a new one") for order in page]
        for number, page in enumerate((first, second, third), 1)
    }

    assert pages == {1: [1, 2, 3, 4, 5], 2: [6, 7, 8, 9, 10], 3: [11, 12, 13]}, (
        "13 orders, newest first; after page 1 a new one was placed, after page 2 its last one was "
        "deleted"
    )

    plan = [str(row[-1]).strip() for row in (await once_more(db, sent[-1:], explain=True))[0]]

    assert {
        "sorts": [step for step in plan if "B-TREE" in step or "Sort" in step],
        "begins at the key": any(re.search(r"SEARCH.*placed_on<|Cond.*placed_on", s) for s in plan),
    } == {"sorts": [], "begins at the key": True}, f"the plan of page 2 is {plan}"


async def test_bound_every_page(app, db):
    """No query gives or fetches more than MOST orders, whatever limit it is called with."""
    ada = app.Customer(name="ada")
    await db.add(ada)
    await db.add(
        *(
            app.Order(customer_id=ada.id, placed_on=DAY, lines=[app.OrderLine(sku="tea", price=3)])
            for _ in range(25)
        )
    )

    given = {}
    async with db.session() as session:
        with sent_with_values(db) as sent:
            await app.board(session)
            for limit in (3, 10**6, -7):
                given[f"limit {limit}"] = len(await app.search(session, ["tea"], limit) or ())
        fetched = max(map(len, await once_more(db, sent)), default=0)

    assert given | {"rows of a statement": fetched} == {
        "limit 3": 3,
        "limit 1000000": 20,
        "limit -7": 1,
        "rows of a statement": min(fetched, 21),
    }, "of 25 orders: how many a search gave, and the most rows that board or search fetched"


async def test_insert_in_bulk(app, db):
    """A price list of any size is stored whole, with a few statements."""
    tea = {"sku": "tea", "name": "Tea", "price": 3, "weight": 250, "supplier": "s"}

    async with db.session() as session:
        await app.import_products(session, [])
        rows = [tea | ({"left": 7, "note": "new"} if n % 2 else {"note": None}) for n in range(40)]
        with db.statements() as sent:
            await app.import_products(session, rows)
        await session.commit()

    assert {"stored": await db.count(app.Product), "statements": len(sent)} == {
        "stored": 40,
        "statements": min(len(sent), 3),
    }, "an empty list, then one of 40 rows, every other one without left and with no note"

    rows = [tea | {"sku": "a"}, tea | {"sku": "b", "left": 4, "unit": None, "note": "new"}]
    async with db.session() as session:
        await app.import_products(session, [*rows])
        await app.import_products(session, [*reversed(rows)])
        await session.commit()
    product = app.Product
    stored = select(product.sku, product.left, product.unit, product.note)

    assert await db.rows(stored.where(product.sku != "tea").order_by(product.sku)) == [
        ("a", 0, "piece", None),
        ("a", 0, "piece", None),
        ("b", 4, None, "new"),
        ("b", 4, None, "new"),
    ], "sku, left, unit, note: a comes without the last three, b with all, and its unit is None"

    rows = [tea | {"left": 7, "unit": None, "note": None}] * 1300
    async with db.session() as session:
        with sent_with_values(db) as sent:
            await app.import_products(session, rows)
    most = max((len(given) for _, given in sent if not isinstance(given, list)), default=0)

    assert {"parameters": most} == {"parameters": min(most, 10000)}, (
        "the most that one statement had for 1300 rows of 8 columns"
    )


async def test_count_rows_once(app, db):
    """Each line, payment and order counts once, and an order without any counts as well."""
    ada = app.Customer(name="ada")
    await db.add(ada)
    bare, small, large = (
        app.Order(
            customer_id=ada.id,
            placed_on=DAY,
            lines=[app.OrderLine(sku=sku, price=5) for sku in skus],
        )
        for skus in ((), ("tea",), ("tea", "pot", "cup"))
    )
    for order in (bare, small, large):
        await db.add(order)
    await db.add(*(app.Payment(order_id=large.id, amount=6) for _ in range(2)))

    async with db.session() as session:
        rows = await app.balances(session)

    assert [tuple(row) for row in rows or ()] == [
        (bare.id, 0, 0, 0),
        (small.id, 1, 5, 0),
        (large.id, 3, 15, 12),
    ], "id, lines, due, paid: the last has three lines at 5 and two payments of 6"

    async with db.session() as session:
        found = await app.search(session, ["tea", "pot"], 2)

    assert [order.id for order in found] == [large.id, small.id], (
        "two orders have tea or pot, the newer one has both"
    )


async def test_read_fresh_state(app, db):
    """An order is as the database has it, and everything else in the session stays as it is."""
    ada = app.Customer(name="ada")
    await db.add(ada)
    asked, other, gone = (
        app.Order(customer_id=ada.id, placed_on=DAY, lines=[app.OrderLine(sku="tea", price=5)])
        for _ in range(3)
    )
    await db.add(asked, other, gone)
    line = app.OrderLine
    query = select(app.Order).order_by(app.Order.id).options(selectinload(app.Order.lines))

    async def change():
        await db.execute(update(app.Order).where(app.Order.id == asked.id).values(status="paid"))
        await db.add(line(order_id=asked.id, sku="pot", price=4))
        await db.execute(delete(line).where(line.order_id == gone.id))
        await db.execute(delete(app.Order).where(app.Order.id == gone.id))

    async with db.session() as session:
        held = (await session.scalars(query)).all()
        await change()
        held[0].placed_on, held[1].placed_on = DAY + timedelta(1), DAY + timedelta(2)
        fresh, missing = [await app.current(session, each.id) for each in (asked, gone)]
        seen = {
            "object": "the session's" if fresh is held[0] else fresh,
            "status": fresh and fresh.status,
            "lines": [line.sku for line in (fresh.lines if fresh else ())],
            "deleted order": missing,
        }
        readable = held[1].status
        await session.commit()

    assert seen == {
        "object": "the session's",
        "status": "paid",
        "lines": ["tea", "pot"],
        "deleted order": None,
    }, "another connection paid the order, added a pot to it, and deleted another order"

    stored = [order.placed_on.day for order in await db.rows(app.Order)]

    assert {"readable": readable, "days stored": stored} == {
        "readable": "new",
        "days stored": [2, 3],
    }, "before, the caller had moved two orders to the 2nd and 3rd, unflushed; it commits after"
