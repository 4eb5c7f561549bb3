import asyncio
import logging
from contextlib import asynccontextmanager, contextmanager

from httpx2 import ASGITransport, AsyncBaseTransport, AsyncClient, Response
from sqlalchemy import Engine, event, inspect, text
from sqlalchemy.pool import Pool

from proven_backend.tools import mypy, ruff

SECRET = "9f2c41d07be84c5f9a3d6e1b8c7042aa"
PASSWORD = "s3cret"
DESK = "https://desk.example"
CARD = "4000123456789010"


class Supplier(AsyncBaseTransport):
    """Answers every price, and counts how often it was closed."""

    closed = 0

    async def handle_async_request(self, request):
        return Response(200, json={"cents": 450})

    async def aclose(self):
        self.closed += 1


@asynccontextmanager
async def running(db, service):
    """A client of a service between its start and its stop."""
    async with service.router.lifespan_context(service) as state:

        async def asgi(scope, receive, send):
            await service(scope | {"state": dict(state or {})}, receive, send)

        transport = ASGITransport(db.story.wrap(asgi), raise_app_exceptions=False)
        async with AsyncClient(transport=transport, base_url="http://shop") as client:
            yield client


def shop(app, url, **seams):
    """The service of a shop whose database is at `url`."""
    return app.create_app(app.Settings(secret_key=SECRET, database_url=url), **seams)


@contextmanager
def connections():
    """The open connections of every engine that connects inside the block."""
    open_now = []

    def opened(connection, _record):
        open_now.append(connection)

    def closed(connection, _record):
        open_now[:] = [each for each in open_now if each is not connection]

    event.listen(Pool, "connect", opened)
    event.listen(Pool, "close", closed)
    yield open_now
    event.remove(Pool, "connect", opened)
    event.remove(Pool, "close", closed)


@contextmanager
def database_down():
    """No engine of this process can connect inside the block."""

    def refuse(*_call):
        raise ConnectionRefusedError("the database is down")

    event.listen(Engine, "do_connect", refuse)
    yield
    event.remove(Engine, "do_connect", refuse)


async def test_build_with_a_factory(app, db, empty):
    """Two shops in one process answer from their own databases."""
    await db.add(app.Product(sku="tea", left=2))
    async with empty.engine.begin() as connection:
        await connection.run_sync(app.Base.metadata.create_all)
    await empty.add(app.Product(sku="tea", left=7))

    async with running(db, shop(app, db.url)) as north, running(db, shop(app, empty.url)) as south:
        replies = {"north": await north.get("/stock/tea"), "south": await south.get("/stock/tea")}

    assert {name: reply.text for name, reply in replies.items()} == {"north": "2", "south": "7"}, (
        "what is left of the tea: two in the north, seven in the south"
    )


async def test_start_and_stop_in_lifespan(app, db):
    """A shop does not start without its database, and leaves no connection open when it stops."""
    await db.add(app.Product(sku="tea", left=2))

    with connections() as left_open:
        async with running(db, shop(app, db.url)) as client:
            served = await client.get("/stock/tea")
    with database_down():
        try:
            async with running(db, shop(app, db.url)):
                without_database = "started"
        except (Exception, SystemExit):  # noqa: BLE001 - whatever stops the start
            without_database = "stopped"

    assert {
        "served": served.text,
        "left open": len(left_open),
        "without database": without_database,
    } == {"served": "2", "left open": 0, "without database": "stopped"}, (
        "what the lifespan should have opened and closed"
    )


async def test_fail_fast_on_settings(app, db, monkeypatch):
    """A missing or weak secret stops the start by its name, and no secret is ever printed."""
    await db.add(app.Product(sku="tea", left=2))
    url = f"postgresql+asyncpg://shop:{PASSWORD}@db/shop"
    printed = repr(app.Settings(secret_key=SECRET, database_url=url))
    monkeypatch.setenv("SHOP_DATABASE_URL", db.url)
    monkeypatch.setenv("SHOP_ORIGINS", f"https://shop.example,{DESK}")

    async def start(**secret):
        monkeypatch.delenv("SHOP_SECRET_KEY", raising=False)
        for value in secret.values():
            monkeypatch.setenv("SHOP_SECRET_KEY", value)
        try:
            async with running(db, app.create_app()) as client:
                reply = await client.get("/stock/tea", headers={"Origin": DESK})
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever stops the start
            return f"stopped: {error}"
        return f"started: {reply.text} for {reply.headers.get('access-control-allow-origin')}"

    good, missing, weak = (
        await start(secret=SECRET),
        await start(),
        await start(secret="hunter2"),
    )

    assert good == f"started: 2 for {DESK}", "good settings, two web shops with a comma between"
    named = {"missing": missing, "weak": weak}
    assert {
        name: [said.partition(":")[0], "secret_key" in said.lower()] for name, said in named.items()
    } == {"missing": ["stopped", True], "weak": ["stopped", True]}, (
        "the start stops, and names the setting"
    )
    secrets = {"weak secret": "hunter2" in weak, "secret": SECRET in printed}
    assert secrets | {"password": PASSWORD in printed} == {
        "weak secret": False,
        "secret": False,
        "password": False,
    }, "what the error or a printed Settings shows"


async def test_size_the_pool_for_the_database(app, db, caplog):
    """One function makes a right engine for each URL: its pool, stale connections, quiet logs."""

    def engine_for(url):
        settings = app.Settings(secret_key=SECRET, database_url=url, connections=2)
        try:
            return app.create_engine(settings)
        except TypeError as error:
            raise AssertionError(f"no engine for {url}: {error}") from error

    async def in_memory():
        engine = engine_for("sqlite+aiosqlite://")
        async with engine.begin() as connection:
            await connection.run_sync(app.Base.metadata.create_all)
        async with engine.begin() as connection:
            tables = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
        await engine.dispose()
        return tables

    engine, raw, asked, enough = engine_for(db.url), [], [], asyncio.Event()
    event.listen(engine.sync_engine, "do_connect", lambda *call: asked.append(call))
    event.listen(engine.sync_engine, "connect", lambda connection, _record: raw.append(connection))

    async def hold():
        async with engine.connect():
            await enough.wait()

    async def at_once():
        tasks = [asyncio.create_task(hold()) for _ in range(3)]
        for _ in range(9):
            await asyncio.sleep(0)
        enough.set()
        await asyncio.gather(*tasks)
        return len(asked)

    async def after_restart():
        for connection in raw:
            await connection.driver_connection.close()
        try:
            async with engine.connect() as connection:
                return await connection.scalar(text("SELECT 'served'"))
        except Exception as error:  # noqa: BLE001 - each driver has its own
            return type(error).__name__

    async def logged():
        with caplog.at_level(logging.INFO, "sqlalchemy.engine"):
            async with engine.connect() as connection:
                try:
                    await connection.execute(text("SELECT :card FROM nowhere"), {"card": CARD})
                except Exception as error:  # noqa: BLE001 - each driver has its own
                    return "card" if CARD in f"{error}{caplog.text}" else "no card"

    seen = {
        "tables in memory": await in_memory(),
        "connections for three": await at_once(),
        "after a restart": await after_restart(),
        "logged": await logged(),
    }

    assert seen == {
        "tables in memory": ["products"],
        "connections for three": 2,
        "after a restart": "served",
        "logged": "no card",
    }, "an engine for two connections"
    await engine.dispose()


async def test_share_one_http_client(app, db):
    """All calls to the supplier share one HTTP client, closed when the shop stops."""
    supplier, seen = Supplier(), {}

    async with running(db, shop(app, db.url, transport=supplier)) as client:
        replies = [await client.get("/prices/tea") for _ in range(3)]
        seen["closed while it serves"] = supplier.closed
    seen["closed when it stops"] = supplier.closed

    assert {"prices": [reply.text for reply in replies]} | seen == {
        "prices": ["450"] * 3,
        "closed while it serves": 0,
        "closed when it stops": 1,
    }, "how often the connections to the supplier were closed"


LINTED = """
import logging
from datetime import datetime

from fastapi import APIRouter, Query
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

router = APIRouter()
logger = logging.getLogger(__name__)


class Basket:
    prices: dict[str, int] = {}  # fault: one dict for all objects


def placed() -> datetime:
    return datetime.utcnow()  # fault: naive time


async def find(session: AsyncSession, sku: str) -> object:
    return await session.scalar(
        text(f"SELECT name FROM products WHERE sku = '{sku}'")  # fault: SQL from a string
    )


@router.get("/orders")
async def orders(
    page: int = Query(1),  # fault: a parameter without Annotated
) -> int:
    return page


def shipped(
    id: int,  # fault: a builtin's name
) -> int:
    return id


def paid(amount: str) -> bool:
    try:
        return int(amount) > 0
    except Exception:  # fault: every exception is caught
        return False


def sell(sku: str) -> None:
    logger.info("sold %s to %s", sku)  # fault: a log line without its argument
"""

READ_BY_PYDANTIC = """
from __future__ import annotations

from datetime import datetime  # fault: moving this import breaks the model

from pydantic import BaseModel


class Order(BaseModel):
    placed: datetime
"""

TYPED = """
from collections.abc import Awaitable
from enum import Enum


class Status(Enum):
    NEW = 1
    PAID = 2


class Remind:
    async def kiq(self, sku: str) -> None:
        print(sku)


async def in_stock(sku: str) -> bool:
    return sku == "tea"


def later(sku: str) -> Awaitable[bool]:
    return in_stock(sku)


async def place(sku: str) -> None:
    Remind().kiq(sku)  # fault: a coroutine that nobody awaits


async def cancel(sku):
    Remind().kiq(sku)  # fault: the same in a function without types


async def check(sku: str) -> None:
    later(sku)  # fault: an awaitable that nobody awaits


async def sell(sku: str) -> str:
    if in_stock(sku):  # fault: a coroutine is always true
        return "sold"
    return "sold out"


async def left(sku: str) -> bool:
    return in_stock(sku)  # fault: a coroutine in place of its result


def first(skus: list[str]) -> str:
    sku = next(iter(skus), None)
    return sku.upper()  # fault: perhaps None


def label(status: Status) -> str:  # fault: no answer for PAID
    if status is Status.NEW:
        return "new"


def is_paid(status: Status) -> bool:
    return status == "paid"  # fault: never equal


def total() -> int:
    return first(["tea"])  # fault: a str for an int
"""


def plant(project, source):
    """Puts one module of our own in the place of the learner's."""
    for module in project.rglob("*.py"):
        module.unlink()
    (project / "app" / "__init__.py").write_text(source)


def faults(source, findings, *, found):
    """The names of the planted faults that some finding points at, or that none does."""
    lines = {each.line for each in findings}
    return [
        line.partition("# fault: ")[2]
        for number, line in enumerate(source.splitlines(), 1)
        if "# fault: " in line and (number in lines) is found
    ]


async def test_pick_lint_rules_that_bite(project):
    """ruff finds the faults that fail at run time, and asks for no import that Pydantic needs."""
    plant(project, LINTED)
    missed = faults(LINTED, ruff(project), found=False)
    plant(project, READ_BY_PYDANTIC)
    spoilt = faults(READ_BY_PYDANTIC, ruff(project), found=True)

    assert missed == [], "faults that ruff does not find with this configuration"
    assert spoilt == [], "right code that ruff wants changed"


async def test_type_check_strictly(project):
    """mypy finds each of nine faults, the coroutines that nobody awaits among them."""
    plant(project, TYPED)

    missed = faults(TYPED, mypy(project, "app"), found=False)

    assert missed == [], "faults that mypy does not find with this configuration"
