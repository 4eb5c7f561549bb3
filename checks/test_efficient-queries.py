"""Checks of efficient-queries: what is asked, how often, and what comes back."""

import re
from contextlib import contextmanager
from datetime import date, timedelta
from itertools import cycle

import pytest
from sqlalchemy import NullPool, delete, event, select, text, update
from sqlalchemy.exc import SQLAlchemyError
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


def other_way_round(db):
    """On SQLite rows that nothing puts in order come the other way round at each second look."""
    turns = cycle(["off", "on"])

    def turn(connection, _record, _proxy):
        connection.cursor().execute(f"PRAGMA reverse_unordered_selects = {next(turns)}")

    if db.engine.dialect.name == "sqlite":
        event.listen(db.engine.sync_engine, "checkout", turn)


def at_most(most, number):
    """A number for a message, or what it may be where it is not too large."""
    return f"at most {most}" if number <= most else number


def read(look):
    """What `look` gives, or that it cannot: the object would have to ask the database first."""
    try:
        return look()
    except (AttributeError, SQLAlchemyError):
        return "not readable"


async def test_load_relations_in_bulk(app, client, db):
    """Five orders take as many statements as one, and show their customers and all lines."""
    orders = [
        app.Order(
            placed_on=DAY - timedelta(days=number),
            customer=app.Customer(name=f"customer {number}"),
            lines=[app.OrderLine(sku=sku, price=3) for sku in ("tea", "pot") if number < 5],
        )
        for number in range(6)
    ]
    paid = app.Order(placed_on=DAY - timedelta(days=9), status="paid", customer=orders[0].customer)
    await db.add(orders[0], paid)

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

    assert shown == ["customer 5", *(f"customer {number} tea pot" for number in (4, 3, 2, 1))], (
        "the board has the five oldest of six new orders, each with its customer and lines; the "
        "oldest has no line"
    )

    with db.statements() as for_page:
        await client.get(f"/customers/{orders[0].customer.id}/orders")
    for_nothing = [sql.partition(" FROM ")[2] for sql in for_page if "order_lines" in sql]

    assert for_nothing == [], "a page of a customer's orders shows no lines: it should load none"


@pytest.mark.on_postgresql_too("rows without an order come otherwise there")
async def test_order_every_page(app, db):
    """Each product stands on exactly one page, whatever order the database finds rows in."""
    prices = [10] * 2 + [9] * 6 + [10] * 4
    products = [
        app.Product(sku="tea", name="", price=price, weight=1, supplier="s") for price in prices
    ]
    await db.add(*products)
    index = text("CREATE INDEX ix_of_an_afternoon ON products (price, id DESC)")
    touched = update(app.Product).where(app.Product.id < products[4].id).values(left=9)

    other_way_round(db)
    shown = []
    for number in (1, 2, 3):
        async with db.session() as session:
            shown += await app.catalogue(session, number) or ()
        for change in (index, touched) if number == 1 else ():
            await db.execute(change)

    assert sorted(product.id for product in shown) == [product.id for product in products], (
        "the ids on pages 1 to 3: each product once. After page 1 an index was made and four "
        "products were updated; all have the same sku"
    )
    assert [product.price for product in shown] == [9] * 6 + [10] * 6, "cheapest first"


async def test_page_by_key(app, client, db):
    """What comes or goes between two pages repeats no order and hides none; an index finds each."""
    ada, ben = app.Customer(name="ada"), app.Customer(name="ben")
    await db.add(ada, ben)
    orders = [
        app.Order(customer_id=customer.id, placed_on=DAY + timedelta({0: 1, 12: -1}.get(number, 0)))
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
        return [place.get(order["id"], "a new one") for order in page["orders"]], page["next"]

    pages = {}
    pages["page 1"], token = await look(None)
    await db.add(app.Order(customer_id=ada.id, placed_on=DAY + timedelta(days=9)))
    with sent_with_values(db) as sent:
        pages["page 2"], token = await look(token)
    tenth = [order_id for order_id, number in place.items() if number == 10]
    await db.execute(delete(app.Order).where(app.Order.id.in_(tenth)))
    pages["page 3"], pages["its token"] = await look(token)

    assert pages == {
        "page 1": [1, 2, 3, 4, 5],
        "page 2": [6, 7, 8, 9, 10],
        "page 3": [11, 12, 13],
        "its token": None,
    }, (
        "13 orders, newest first, the 2nd to 12th of one day; after page 1 a new one was placed, "
        "after page 2 the 10th was deleted"
    )

    plans = [
        " · ".join(str(row[-1]).strip() for row in plan)
        for plan in await once_more(db, sent, explain=True)
    ]
    at_key = [one for one in plans if re.search(r"SEARCH[^·]*placed_on<|Cond[^·]*placed_on", one)]

    assert {
        "begins at the key": bool(at_key),
        "sorts": [plan for plan in at_key if "B-TREE" in plan or "Sort" in plan],
    } == {"begins at the key": True, "sorts": []}, f"the plan of page 2 is {'; '.join(plans)}"


async def test_bound_every_page(app, db):
    """No query gives or fetches more than MOST rows, whatever limit it is called with."""
    ada = app.Customer(name="ada")
    await db.add(ada)
    rows = []
    for _ in range(25):
        rows.append(app.Product(sku="tea", name="", price=3, weight=1, supplier="s"))
        lines = [app.OrderLine(sku="tea", price=3)]
        rows.append(app.Order(customer_id=ada.id, placed_on=DAY, lines=lines))
    await db.add(*rows)

    given = {}
    async with db.session() as session:
        with sent_with_values(db) as sent:
            await app.board(session)
            await app.catalogue(session, 1)
            await app.orders_of(session, ada.id, None)
            for limit in (3, 21, 0, -7):
                given[f"limit {limit}"] = len(await app.search(session, ["tea"], limit) or ())
        fetched = max(map(len, await once_more(db, sent)), default=0)

    assert given | {"rows of a statement": at_most(21, fetched)} == {
        "limit 3": 3,
        "limit 21": 20,
        "limit 0": 1,
        "limit -7": 1,
        "rows of a statement": "at most 21",
    }, (
        "of 25 orders and 25 products: how many a search gave, and the most rows that a statement "
        "of board, catalogue, orders_of or search fetched"
    )


async def test_insert_in_bulk(app, db):
    """A price list of any size is stored whole, with a few statements."""
    tea = {"sku": "tea", "name": "Tea", "price": 3, "weight": 250, "supplier": "s"}

    async with db.session() as session:
        await app.import_products(session, [])
        rows = [tea | ({"left": 7, "note": "new"} if n % 2 else {"note": None}) for n in range(40)]
        with db.statements() as sent:
            await app.import_products(session, rows)
        await session.commit()

    assert {"stored": await db.count(app.Product), "statements": at_most(3, len(sent))} == {
        "stored": 40,
        "statements": "at most 3",
    }, "an empty list, then one of 40 rows, every other one without left and with no note"

    empty = {"sku": "c", "left": 1, "unit": "", "note": ""}
    rows = [{"sku": "a"}, {"sku": "b", "left": 4, "unit": None, "note": "new"}, empty]
    async with db.session() as session:
        await app.import_products(session, [tea | row for row in rows])
        await app.import_products(session, [tea | row for row in reversed(rows)])
        await session.commit()
    product = app.Product
    stored = select(product.sku, product.left, product.unit, product.note)

    assert await db.rows(stored.where(product.sku != "tea").order_by(product.sku)) == [
        *[("a", 0, "piece", None)] * 2,
        *[("b", 4, None, "new")] * 2,
        *[("c", 1, "", "")] * 2,
    ], "sku, left, unit, note: a came without the last three, b with unit None, c with empty texts"

    rows = [tea | {"sku": "pot", "left": 7, "unit": None, "note": None}] * 1300
    async with db.session() as session:
        with sent_with_values(db) as sent:
            await app.import_products(session, rows)
        await session.rollback()
        most = max((len(given) for _, given in sent if not isinstance(given, list)), default=0)
        kept = await db.count(stored.where(product.sku == "pot"))

    assert {"parameters of a statement": at_most(10000, most), "stored": kept} == {
        "parameters of a statement": "at most 10000",
        "stored": 0,
    }, "1300 rows of 8 columns; then the caller rolled its session back"


async def test_count_rows_once(app, db):
    """Each line, payment and order counts once, and an order without any counts as well."""
    ada = app.Customer(name="ada")
    await db.add(ada)
    small, large, bare = (
        app.Order(
            customer_id=ada.id,
            placed_on=DAY - timedelta(days=number),
            status=status,
            lines=[app.OrderLine(sku=sku, price=price) for sku, price in lines.items()],
        )
        for number, (status, lines) in enumerate(
            [("paid", {"pot": 5}), ("new", {"tea": 5, "pot": 5, "cup": 7}), ("new", {})]
        )
    )
    for order in (small, large, bare):
        await db.add(order)
    await db.add(*(app.Payment(order_id=large.id, amount=amount) for amount in (6, 6, 4)))

    other_way_round(db)
    async with db.session() as session:
        found = await app.search(session, ["tea", "pot"], 2)

    assert [order.id for order in found] == [large.id, small.id], (
        "of three orders the newest has no line, the next one tea and pot, the oldest a pot: the "
        "two newest with tea or pot"
    )

    async with db.session() as session:
        with db.statements() as sent:
            rows = [tuple(row) for row in await app.balances(session) or ()]

    assert {"rows": rows, "statements": at_most(4, len(sent))} == {
        "rows": [(small.id, 1, 5, 0), (large.id, 3, 17, 16), (bare.id, 0, 0, 0)],
        "statements": "at most 4",
    }, "id, lines, due, paid: the second has lines at 5, 5 and 7, and payments of 6, 6 and 4"


@pytest.mark.on_postgresql_too("it locks rows, SQLite the file")
async def test_read_fresh_state(app, db):
    """An order is as the database has it, and everything else in the session stays as it is."""
    ada, ben = app.Customer(name="ada"), app.Customer(name="ben")
    await db.add(ada, ben)
    order, line = app.Order, app.OrderLine
    asked, other, gone = (
        order(customer_id=ada.id, placed_on=DAY, lines=[line(sku="tea", price=5)]) for _ in range(3)
    )
    await db.add(asked, other, gone)
    whole = selectinload(order.lines), selectinload(order.customer)

    async def change():
        await db.execute(update(order).values(status="paid", customer_id=ben.id))
        await db.execute(update(line).values(price=6))
        await db.add(line(order_id=asked.id, sku="pot", price=4))
        await db.execute(delete(line).where(line.order_id == gone.id))
        await db.execute(delete(order).where(order.id == gone.id))

    async with db.session() as session:
        held = (await session.scalars(select(order).order_by(order.id).options(*whole))).all()
        tea = held[0].lines[0]
        await change()
        held[0].placed_on, held[1].placed_on = DAY + timedelta(1), DAY + timedelta(2)
        fresh, missing = [await app.current(session, each.id) for each in (asked, gone)]
        seen = {
            "object": "the session's" if fresh is held[0] else fresh,
            "deleted order": missing,
            "status": read(lambda: fresh.status),
            "customer": read(lambda: fresh.customer.name),
            "lines": read(lambda: [each.sku for each in fresh.lines]),
            "tea costs": read(lambda: tea.price),
        }
        kept = {number: read(lambda n=number: held[n - 1].status) for number in (2, 3)}
        commits = db.order("COMMIT")
        await session.commit()

    assert seen == {
        "object": "the session's",
        "deleted order": None,
        "status": "paid",
        "customer": "ben",
        "lines": ["tea", "pot"],
        "tea costs": 6,
    }, (
        "the session had read all; then another connection gave the orders to ben as paid, made "
        "tea 6, added a pot to the first order, and deleted the third"
    )

    stored = [each.placed_on.day for each in await db.rows(order)]

    assert {"kept": kept, "commits": commits, "days stored": stored} == {
        "kept": {2: "new", 3: "new"},
        "commits": [],
        "days stored": [2, 3],
    }, (
        "before, the caller had moved two orders to the 2nd and 3rd, unflushed, and it commits "
        "after; its objects of the second and third order keep the status they had"
    )
