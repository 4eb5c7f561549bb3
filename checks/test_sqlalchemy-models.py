"""The checks of sqlalchemy-models: what the classes promise, the tables keep."""

from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from sqlalchemy import inspect, text, update
from sqlalchemy.exc import InvalidRequestError, StatementError

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
# The connections that are made after it keep the clock of another branch.
KARACHI = """DO $$ BEGIN EXECUTE
format('ALTER DATABASE %I SET timezone TO ''Asia/Karachi''', current_database()); END $$"""


def constraints(connection):
    """The constraints in the database, as (kind, table, name)."""
    look = inspect(connection)
    for table in look.get_table_names():
        yield "pk", table, look.get_pk_constraint(table)["name"]
        for kind, found in (
            ("uq", look.get_unique_constraints(table)),
            ("fk", look.get_foreign_keys(table)),
            ("ck", look.get_check_constraints(table)),
        ):
            for constraint in found:
                yield kind, table, constraint["name"]


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


async def an_order(app, db, email, positions=(1, 2, 3)):
    """A stored order of a new customer, with lines at these positions."""
    lines = [app.OrderLine(sku=f"tea {n}", position=n) for n in positions]
    customer = app.Customer(email=email, code=email)
    order = app.Order(customer=customer, placed_at=LONG_AGO, lines=lines)
    await db.add(order)
    return order


async def test_name_every_constraint(client, db):
    """Each constraint has the name of its kind, table and columns, and no other has that name."""
    added = await client.post("/customers", json={"email": "ada@shop.test"})

    async with db.engine.connect() as connection:
        found = await connection.run_sync(lambda sync: list(constraints(sync)))

    names = Counter(name for _, _, name in found)
    assert {
        "told": added.status_code,
        "misnamed": [f"{t}: {name}" for kind, t, name in found if f"{kind}_{t}" not in str(name)],
        "given twice": [name for name, times in names.items() if times > 1],
        "for the address": [name for kind, t, name in found if (kind, t) == ("uq", "customers")],
    } == {
        "told": 201,
        "misnamed": [],
        "given twice": [],
        "for the address": ["uq_customers_email"],
    }, "a migration cannot tell these constraints by the names of the convention"


async def test_enforce_rules_in_the_database(app, client, db):
    """A broken rule is refused and a kept one accepted, whoever writes, on any connection."""
    shop = "INSERT INTO products (name, price) VALUES"
    customers = "INSERT INTO customers (email, code, preferences) VALUES"
    written = {
        "a pot for 9": f"{shop} ('pot', 9)",
        "a pot for 0": f"{shop} ('free pot', 0)",
        "tea by the gram": "INSERT INTO products (name, price, unit) VALUES ('tea', 1, 'gram')",
        "tea by the stone": "INSERT INTO products (name, price, unit) VALUES ('hay', 1, 'stone')",
        "ada": f"{customers} ('ada@shop.test', 'a', '{{}}')",
        "a second ada": f"{customers} ('ada@shop.test', 'b', '{{}}')",
    }
    added = {name: await outcome(db.execute(text(sql))) for name, sql in written.items()}

    assert added == {
        "a pot for 9": "stored",
        "a pot for 0": "refused",
        "tea by the gram": "stored",
        "tea by the stone": "refused",
        "ada": "stored",
        "a second ada": "refused",
    }, "the warehouse program writes plain SQL, and names only what it knows"

    active = await client.get("/products")

    assert seen(active) == ["pot", "tea"], "a product is active unless somebody says otherwise"

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


async def test_raise_on_lazy_loads(app, client, db):
    """What no query asked for is not loaded: not along with the rows, and not when it is read."""
    order = await an_order(app, db, "ada@shop.test")

    with db.statements() as sent:
        listed = await client.get("/orders", params={"since": LONG_AGO.isoformat()})
    for_nothing = [sql for sql in sent if "customers" in sql or "order_lines" in sql]

    assert {"told": listed.status_code, "for nothing": for_nothing} == {
        "told": 200,
        "for nothing": [],
    }, "the list shows neither customers nor lines"

    async with db.session() as session:
        found = await session.get(app.Order, order.id)
        with db.statements() as sent:
            for name in ("customer", "lines"):
                with suppress(InvalidRequestError):
                    await session.run_sync(lambda _, name=name: getattr(found, name))

    assert sent == [], "no query loaded the customer or the lines: reading them sent these"


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

    assert {"told": deleted.status_code, "on lines": on_lines, "left": await left()} == {
        "told": 204,
        "on lines": [],
        "left": [(other.id, 1)],
    }, "the database deletes the lines of order 1, without a statement for them"


async def test_load_generated_values(app, client, db):
    """What the database generates comes back with the statement that generates it."""
    with db.statements() as sent:
        created = await client.post("/products", json={"name": "tea", "price": 5})

    assert {"told": created.status_code, "last": last_verb(sent)} == {
        "told": 201,
        "last": "INSERT",
    }, "the INSERT can return all that the reply shows"

    await db.execute(update(app.Product).values(updated_at=LONG_AGO))

    with db.statements() as sent:
        changed = await client.patch(f"/products/{created.json()['id']}", json={"price": 6})
    [product] = await db.rows(app.Product)

    assert {
        "told": changed.status_code,
        "last": last_verb(sent),
        "a new time": product.updated_at != LONG_AGO,
    } == {"told": 200, "last": "UPDATE", "a new time": True}, (
        "the UPDATE makes a new time, and can return it"
    )


async def test_store_utc(app, client, db):
    """A time is read as the instant that was written, aware, wherever the writer's clock was."""
    if db.engine.dialect.name == "postgresql":
        await db.execute(text(KARACHI))
    customer = app.Customer(email="ada@shop.test", code="ada")
    await db.add(customer)
    noon = "2026-11-21T12:00:00+05:00"
    order = {"customer_id": customer.id, "placed_at": noon, "lines": []}

    placed = await client.post("/orders", json=order)
    since = {hour: {"since": f"2026-11-21T{hour}:00Z"} for hour in ("06", "08")}
    found = {hour: seen(await client.get("/orders", params=since[hour])) for hour in since}
    times = [row.placed_at.isoformat() for row in await db.rows(app.Order)]

    assert {
        "told": placed.status_code,
        "stored": times,
        "found since": found,
    } == {
        "told": 201,
        "stored": ["2026-11-21T07:00:00+00:00"],
        "found since": {"06": [1], "08": []},
    }, "12:00+05:00 is 07:00 UTC"

    naive = app.Order(customer_id=customer.id, placed_at=LONG_AGO.replace(tzinfo=None))
    added = await outcome(db.add(naive))

    assert added == "refused", "midnight in which zone?"

    await client.post("/products", json={"name": "tea", "price": 5})
    [*_, product] = await db.rows(app.Product)
    off = round((datetime.now(UTC) - product.created_at) / timedelta(hours=1))

    assert off == 0, "hours between now and the database's own now()"


async def test_give_each_row_its_own_default(app, client, db):
    """What one customer gets or changes is no other customer's default."""
    for email, mail in (("ada@shop.test", False), ("ben@shop.test", True)):
        await client.post("/customers", json={"email": email, "mail": mail})

    customers = await db.rows(app.Customer)

    assert {
        "mail": [customer.preferences["channels"]["mail"] for customer in customers],
        "codes": len({customer.code for customer in customers}),
    } == {"mail": [False, True], "codes": 2}, "Ada wants no mail, and Ben has his own wishes"
