"""The checks of sqlalchemy-models: what the classes promise, the tables keep."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, inspect, text, update
from sqlalchemy.exc import InvalidRequestError, StatementError

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
UNIQUE = {
    "uq_customers_email",
    "uq_order_lines_order_id_sku",
    "uq_order_lines_order_id_position",
}
# The connections that are made after it keep the clock of another branch.
KARACHI = """DO $$ BEGIN EXECUTE
format('ALTER DATABASE %I SET timezone TO ''Asia/Karachi''', current_database()); END $$"""


@pytest.fixture
async def karachi(db, monkeypatch):
    """The clocks of this process and of the database are those of another branch."""
    if db.engine.dialect.name == "postgresql":
        await db.execute(text(KARACHI))
    monkeypatch.setenv("TZ", "PKT-5")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def constraints(connection):
    """Each constraint in the database: its name, and the one that the convention gives it."""
    look = inspect(connection)
    for table in look.get_table_names():
        yield look.get_pk_constraint(table)["name"], f"pk_{table}"
        for unique in look.get_unique_constraints(table):
            yield unique["name"], "_".join(["uq", table, *unique["column_names"]])
        for key in look.get_foreign_keys(table):
            columns = key["constrained_columns"]
            yield key["name"], "_".join(["fk", table, *columns, key["referred_table"]])
        for rule in look.get_check_constraints(table):
            name = str(rule["name"])
            yield name, f"ck_{table}_{name.rpartition(f'ck_{table}_')[2]}"


def seen(reply):
    """What a good reply lists, objects by their ids; else its status."""
    if not reply.is_success:
        return reply.status_code
    return [each["id"] if isinstance(each, dict) else each for each in reply.json()]


def last_verb(sent):
    """What the last statement does, as in INSERT."""
    return sent[-1].split()[0] if sent else None


async def outcome(change):
    """Whether another connection's change is stored or refused."""
    try:
        await change
    except StatementError:
        return "refused"
    return "stored"


def read(_session, row, name):
    """Whether an attribute is given, empty or refused."""
    try:
        return getattr(row, name) and "given"
    except InvalidRequestError:
        return "refused"


def hours_off(made):
    """How far a time that was made just now is from it; a naive time is from nowhere."""
    return round((datetime.now(UTC) - made) / timedelta(hours=1)) if made.tzinfo else "naive"


async def an_order(app, db, email, positions=(1, 2, 3)):
    """A stored order of a new customer, with lines at these positions."""
    lines = [app.OrderLine(sku=f"tea {n}", position=n) for n in positions]
    customer = app.Customer(email=email, code=email)
    order = app.Order(customer=customer, placed_at=LONG_AGO, lines=lines)
    await db.add(order)
    return order


@pytest.mark.on_postgresql_too("it names what has no name")
async def test_name_every_constraint(client, db):
    """Each constraint has the name of its kind, table, columns and referred table."""
    added = await client.post("/customers", json={"email": "ada@shop.test"})

    async with db.engine.connect() as connection:
        found = await connection.run_sync(lambda sync: list(constraints(sync)))

    assert {
        "told": added.status_code,
        "misnamed": [f"{name}, not {wanted}" for name, wanted in found if name != wanted],
        "lost": sorted(UNIQUE - {wanted for _, wanted in found}),
    } == {"told": 201, "misnamed": [], "lost": []}, (
        "a migration knows these constraints by the names of the convention"
    )


@pytest.mark.on_postgresql_too("constraints and types are other ones there")
async def test_enforce_rules_in_the_database(app, client, db):
    """A broken rule is refused and a kept one accepted, whoever writes, on any connection."""
    shop = "INSERT INTO products (name, price) VALUES"
    customers = "INSERT INTO customers (email, code, preferences) VALUES"
    written = {
        "a pot for 9": f"{shop} ('pot', 9)",
        "a pot for 0": f"{shop} ('free pot', 0)",
        "a pot for -9": f"{shop} ('dear pot', -9)",
        "a pot for NULL": f"{shop} ('some pot', NULL)",
        "tea by the gram": "INSERT INTO products (name, price, unit) VALUES ('tea', 1, 'gram')",
        "tea by the GRAM": "INSERT INTO products (name, price, unit) VALUES ('tea', 1, 'GRAM')",
        "ada": f"{customers} ('ada@shop.test', 'a', '{{}}')",
        "a second ada": f"{customers} ('ada@shop.test', 'b', '{{}}')",
        "an order of nobody": "INSERT INTO orders (placed_at) VALUES ('2026-11-21 12:00')",
    }
    added = {name: await outcome(db.execute(text(sql))) for name, sql in written.items()}

    assert added == {
        "a pot for 9": "stored",
        "a pot for 0": "refused",
        "a pot for -9": "refused",
        "a pot for NULL": "refused",
        "tea by the gram": "stored",
        "tea by the GRAM": "refused",
        "ada": "stored",
        "a second ada": "refused",
        "an order of nobody": "refused",
    }, "the warehouse program writes plain SQL, and names only what it knows"

    await db.add(app.Product(name="cup", price=3))
    active = await client.get("/products")
    units = dict(await db.rows(text("SELECT name, unit FROM products")))

    assert {"active": seen(active), "units": units} == {
        "active": ["cup", "pot", "tea"],
        "units": {"cup": "piece", "pot": "piece", "tea": "gram"},
    }, "active, and by the piece, unless somebody says otherwise"

    [ada] = await db.rows(app.Customer)
    order = {"placed_at": "2026-11-21T12:00Z", "lines": []}
    async with db.session() as other:
        await other.connection()
        known = await client.post("/orders", json=order | {"customer_id": ada.id})
        unknown = await client.post("/orders", json=order | {"customer_id": ada.id + 1})

    assert {
        "known": known.status_code,
        "unknown": unknown.status_code,
        "stored": await db.count(app.Order),
    } == {"known": 201, "unknown": 409, "stored": 1}, (
        "orders of a customer that exists and of one that does not, on the pool's next connection"
    )


async def test_raise_on_lazy_loads(app, db):
    """What no query asked for is not loaded: not along with the rows, and not when it is read."""
    order = await an_order(app, db, "ada@shop.test")

    async with db.session() as session:
        with db.statements() as sent:
            found = await session.get(app.Order, order.id)
            customer = await session.run_sync(read, found, "customer")
            lines = await session.run_sync(read, found, "lines")
    for_nothing = [sql for sql in sent if "customers" in sql or "order_lines" in sql]

    assert {"for nothing": for_nothing, "customer": customer, "lines": lines} == {
        "for nothing": [],
        "customer": "refused",
        "lines": "refused",
    }, "somebody asked for an order, and named neither its customer nor its lines"


@pytest.mark.on_postgresql_too("it enforces foreign keys by itself")
async def test_cascade_in_the_database(app, client, db):
    """Lines go with their order, without a statement for them, and a removed line goes alone."""
    order = await an_order(app, db, "ada@shop.test")
    other = await an_order(app, db, "ben@shop.test", positions=[1])

    async def left():
        return [(line.order_id, line.position) for line in await db.rows(app.OrderLine)]

    removed = await client.delete(f"/orders/{order.id}/lines/2")

    assert {"told": removed.status_code, "left": await left()} == {
        "told": 204,
        "left": [(order.id, 1), (order.id, 3), (other.id, 1)],
    }, "line 2 was taken out of its order"

    with db.statements() as sent:
        deleted = await client.delete(f"/orders/{order.id}")
    on_lines = [sql for sql in sent if "order_lines" in sql]

    assert {
        "told": deleted.status_code,
        "on lines": on_lines,
        "left": await left(),
        "customers": await db.count(app.Customer),
    } == {"told": 204, "on lines": [], "left": [(other.id, 1)], "customers": 2}, (
        "order 1 goes, and with it its lines, by the database and without a statement for them"
    )

    async with db.session() as session:
        await outcome(session.execute(delete(app.Customer)))
        await outcome(session.commit())
    kept = {"customers": await db.count(app.Customer), "orders": await db.count(app.Order)}

    assert kept == {"customers": 2, "orders": 1}, "a customer with an order is not to be deleted"


@pytest.mark.on_postgresql_too("it has other defaults of its own")
async def test_load_generated_values(app, client, db):
    """What the database generates comes back with the statement that generates it."""
    with db.statements() as sent:
        created = await client.post("/products", json={"name": "tea", "price": 5})

    assert {"told": created.status_code, "last": last_verb(sent)} == {
        "told": 201,
        "last": "INSERT",
    }, "the INSERT can return all that the reply shows"

    await db.execute(update(app.Product).values(created_at=LONG_AGO, updated_at=LONG_AGO))

    with db.statements() as sent:
        changed = await client.patch(f"/products/{created.json()['id']}", json={"price": 6})
    [product] = await db.rows(app.Product)
    times = {"created_at": product.created_at, "updated_at": product.updated_at}

    assert {
        "told": changed.status_code,
        "last": last_verb(sent),
        "new": [name for name, moment in times.items() if moment.year > LONG_AGO.year],
    } == {"told": 200, "last": "UPDATE", "new": ["updated_at"]}, (
        "the UPDATE makes a new updated_at, and can return it"
    )


@pytest.mark.usefixtures("karachi")
@pytest.mark.on_postgresql_too("it keeps time zones, SQLite does not")
async def test_store_utc(app, client, db):
    """A time is read as the instant that was written, aware, wherever the writer's clock was."""
    customer = app.Customer(email="ada@shop.test", code="ada")
    await db.add(customer)
    order = {"customer_id": customer.id, "lines": []}

    written = ("2026-11-21T12:00+05:00", "2026-11-21T04:00:00.25-05:00")
    told = [
        (await client.post("/orders", json=order | {"placed_at": at})).status_code for at in written
    ]
    found = await client.get("/orders", params={"since": "2026-11-21T08:00Z"})
    stored = [row.placed_at.isoformat() for row in await db.rows(app.Order)]

    assert {"told": told, "stored": stored, "found since 08:00": seen(found)} == {
        "told": [201, 201],
        "stored": ["2026-11-21T07:00:00+00:00", "2026-11-21T09:00:00.250000+00:00"],
        "found since 08:00": [2],
    }, "12:00+05:00 is 07:00 UTC, and 04:00-05:00 is 09:00"

    async with db.session() as session:
        session.add(app.Order(customer_id=customer.id, placed_at=LONG_AGO.replace(tzinfo=None)))
        naive = await outcome(session.flush())

    assert naive == "refused", "midnight in which zone?"

    added = await client.post("/products", json={"name": "tea", "price": 5})
    created = [hours_off(each.created_at) for each in await db.rows(app.Product)]
    updated = [hours_off(each.updated_at) for each in await db.rows(app.Product)]

    assert {"told": added.status_code, "created": created, "updated": updated} == {
        "told": 201,
        "created": [0],
        "updated": [0],
    }, "hours between now and a time that was made just now"


async def test_give_each_row_its_own_default(app, client, db):
    """What one customer gets or changes is no other customer's default."""
    for email, mail in (("ada@shop.test", False), ("ben@shop.test", True)):
        await client.post("/customers", json={"email": email, "mail": mail})

    customers = await db.rows(app.Customer)

    assert {
        "channels": [customer.preferences["channels"] for customer in customers],
        "codes": len({customer.code for customer in customers}),
    } == {
        "channels": [{"mail": False, "phone": False}, {"mail": True, "phone": False}],
        "codes": 2,
    }, "Ada wants no mail, and Ben has his own wishes"

    async with db.session() as session:
        for name in ("tea", "pot"):
            product = app.Product(name=name, price=5)
            session.add(product)
            await session.commit()
            product.price = 6
            await session.commit()
    products = await db.rows(app.Product)
    times = [moment for each in products for moment in (each.created_at, each.updated_at)]

    # SQLite's own clock has whole seconds, which two rows may well share
    once = {str(moment) for moment in times if times.count(moment) > 1 and moment.microsecond}

    assert {"changed": [each.price for each in products], "made once": sorted(once)} == {
        "changed": [6, 6],
        "made once": [],
    }, "two products, one after the other, share no time to the microsecond"
