import asyncio
import logging
from contextlib import contextmanager

import pytest
from httpx2 import AsyncBaseTransport, AsyncHTTPTransport, Response
from sqlalchemy import Engine, event, inspect, text
from sqlalchemy.pool import Pool
from sqlalchemy.util import await_only

from proven_backend.database import connections
from proven_backend.tools import mypy, ruff

SECRET = "9f2c41d07be84c5f9a3d6e1b8c7042aa"
PASSWORD = "s3cret"
DESK = "https://desk.example"
CARD = "4000123456789010"
IN_MEMORY = ("sqlite+aiosqlite://", "sqlite+aiosqlite:///:memory:")
BITING = ("DTZ", "S608", "FAST", "A00", "BLE")


class Supplier(AsyncBaseTransport):
    """Carries each question to a supplier with one price for all."""

    def __init__(self, cents=450):
        self.cents = cents

    async def handle_async_request(self, request):
        return Response(200, json={"cents": self.cents})


def shop(app, url, *, cents=450, **settings):
    """The service of a shop whose database is at `url`, and whose supplier has one price."""
    settings = app.Settings(secret_key=SECRET, database_url=url, **settings)
    return app.create_app(settings, transport=Supplier(cents))


@contextmanager
def database_down():
    """No engine of this process can connect inside the block."""

    def refuse(*_call):
        raise ConnectionRefusedError("the database is down")

    event.listen(Engine, "do_connect", refuse)
    yield
    event.remove(Engine, "do_connect", refuse)


async def most_at_once(open_now, uses):
    """How many connections are open while each of the uses keeps the one that it got."""
    enough = asyncio.Event()

    def keep(*_call):
        await_only(enough.wait())

    event.listen(Pool, "checkout", keep)
    tasks = [asyncio.create_task(use) for use in uses]
    for _ in range(99):
        await asyncio.sleep(0)
    most = len(open_now)
    enough.set()
    await asyncio.gather(*tasks)
    event.remove(Pool, "checkout", keep)
    return most


async def tells_card(engine, caplog):
    """Whether the error of a statement, or its log, tells the card number that it was given."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "sqlalchemy.engine"):
        async with engine.connect() as connection:
            try:
                await connection.execute(text("SELECT :card FROM nowhere"), {"card": CARD})
            except Exception as error:  # noqa: BLE001 - each driver has its own
                return CARD in f"{error}{caplog.text}"


async def test_build_with_a_factory(app, db, empty, serve):
    """Two shops in one process answer from their own databases, and ask their own suppliers."""
    await db.add(app.Product(sku="tea", left=2))
    async with empty.engine.begin() as connection:
        await connection.run_sync(app.Base.metadata.create_all)
    await empty.add(app.Product(sku="tea", left=7))

    north = await serve(shop(app, db.url, cents=450))
    south = await serve(shop(app, empty.url, cents=480))
    told = {
        name: {path: (await client.get(path)).text for path in ("/stock/tea", "/prices/tea")}
        for name, client in {"north": north, "south": south}.items()
    }

    assert told == {
        "north": {"/stock/tea": "2", "/prices/tea": "450"},
        "south": {"/stock/tea": "7", "/prices/tea": "480"},
    }, "what each shop tells of the tea: the south was made after the north"


async def test_start_and_stop_in_lifespan(app, db, running):
    """A shop does not start without its database; however it stops, no connection stays open."""
    await db.add(app.Product(sku="tea", left=2))

    with connections() as left_open:
        async with running(shop(app, db.url), cancelled=True) as client:
            served = await client.get("/stock/tea")
    with database_down():
        try:
            async with running(shop(app, db.url)):
                without_database = "started"
        except (Exception, SystemExit):  # noqa: BLE001 - whatever stops the start
            without_database = "stopped"

    assert {
        "left of the tea": served.text,
        "connections left open": len(left_open),
        "without database": without_database,
    } == {"left of the tea": "2", "connections left open": 0, "without database": "stopped"}, (
        "a shop that serves until Ctrl-C raises at the yield, and one that finds no database"
    )


async def test_fail_fast_on_settings(app, db, monkeypatch, running):
    """A missing or weak setting stops the start by its name, and no secret is ever printed."""
    await db.add(app.Product(sku="tea", left=2))
    url = f"postgresql+asyncpg://shop:{PASSWORD}@db/shop"
    printed = repr(app.Settings(secret_key=SECRET, database_url=url))

    async def start(**changes):
        origins = f"https://shop.example,{DESK}"
        settings = {"SECRET_KEY": SECRET, "DATABASE_URL": db.url, "ORIGINS": origins} | changes
        for name, value in settings.items():
            if value is None:
                monkeypatch.delenv(f"SHOP_{name}", raising=False)
            else:
                monkeypatch.setenv(f"SHOP_{name}", value)
        try:
            async with running(app.create_app(transport=Supplier())) as client:
                reply = await client.get("/stock/tea", headers={"Origin": DESK})
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever stops the start
            return f"stopped: {error}"
        allowed = reply.headers.get("access-control-allow-origin")
        return f"started: {reply.text}, access-control-allow-origin: {allowed}"

    good = await start()
    bad = {
        "missing secret_key": await start(SECRET_KEY=None),
        "weak secret_key": await start(SECRET_KEY=SECRET[:31]),
        "missing database_url": await start(DATABASE_URL=None),
    }
    places = {f"the error on a {case}": words for case, words in bad.items()}
    shown = [
        f"{secret} in {place}"
        for place, words in {**places, "a printed Settings": printed}.items()
        for secret, part in {"secret_key": SECRET[:8], "database_url's password": PASSWORD}.items()
        if part in words
    ]

    assert good == f"started: 2, access-control-allow-origin: {DESK}", (
        "good settings, two web shops in SHOP_ORIGINS, asked from the second"
    )
    assert {
        case: {"start": words.partition(":")[0], "named": case.split()[1] in words.lower()}
        for case, words in bad.items()
    } == {case: {"start": "stopped", "named": True} for case in bad}, (
        "whether the start stops, and its error names the setting"
    )
    assert shown == [], "secrets that can be read in an error or in a printed Settings"


async def test_size_the_pool_for_the_database(app, db, caplog, running):
    """An engine keeps to its limit, outlives a restart, and hides values in errors and logs."""
    raw = []

    def engine_for(url):
        settings = app.Settings(secret_key=SECRET, database_url=url, connections=3)
        try:
            return app.create_engine(settings)
        except TypeError as error:
            raise AssertionError(f"no engine for {url}: {error}") from error

    async def in_memory(url):
        engine = engine_for(url)
        async with engine.begin() as connection:
            await connection.run_sync(app.Base.metadata.create_all)
        async with engine.begin() as connection:
            tables = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
        told = await tells_card(engine, caplog)
        await engine.dispose()
        return {"tables": tables, "tells a card": told}

    async def use(engine):
        async with engine.connect():
            pass

    async def limits():
        with connections() as open_now:
            of_three = await most_at_once(open_now, [use(engine) for _ in range(4)])
        with connections() as open_now:
            async with running(shop(app, db.url, connections=1)) as client:
                of_one = await most_at_once(open_now, [client.get("/stock/tea") for _ in range(2)])
        return {"4 uses of an engine for 3": of_three, "2 requests to a shop for 1": of_one}

    async def after_restart():
        for connection in raw:
            await connection.driver_connection.close()
        try:
            async with engine.connect() as connection:
                return await connection.scalar(text("SELECT 'served'"))
        except Exception as error:  # noqa: BLE001 - each driver has its own
            return type(error).__name__

    await db.add(app.Product(sku="tea", left=2))
    memory = {url: await in_memory(url) for url in IN_MEMORY}

    assert memory == {url: {"tables": ["products"], "tells a card": False} for url in IN_MEMORY}, (
        "what a second connection finds, and whether an error or the log tells a card number"
    )
    engine = engine_for(db.url)
    event.listen(engine.sync_engine, "connect", lambda connection, _record: raw.append(connection))
    seen = {
        "connections of": await limits(),
        "after a restart": await after_restart(),
        "tells a card": await tells_card(engine, caplog),
    }
    await engine.dispose()

    assert seen == {
        "connections of": {"4 uses of an engine for 3": 3, "2 requests to a shop for 1": 1},
        "after a restart": "served",
        "tells a card": False,
    }, "connections open at once, the first use after a restart, a card in an error or the log"


def tapped(monkeypatch):
    """What HTTP clients ask that were given no transport, as a list; each question is answered."""
    clients, told = [], []

    def tell(client, words):
        line = f"client {clients.index(client) + 1} {words}"
        told.extend([line] if line not in told else [])

    def made(_self, *_settings, **_more):
        pass

    async def entered(self):
        return self

    async def asked(self, request):
        clients.extend([self] if self not in clients else [])
        tell(self, f"asks {request.url.path}")
        return Response(200, json={"cents": 450})

    async def closed(self, *_error):
        if self in clients:
            tell(self, "is closed")

    monkeypatch.setattr(AsyncHTTPTransport, "__init__", made)
    monkeypatch.setattr(AsyncHTTPTransport, "__aenter__", entered)
    monkeypatch.setattr(AsyncHTTPTransport, "handle_async_request", asked)
    monkeypatch.setattr(AsyncHTTPTransport, "aclose", closed)
    monkeypatch.setattr(AsyncHTTPTransport, "__aexit__", closed)
    return told


async def test_share_one_http_client(app, db, monkeypatch, running):
    """All calls to the supplier share one HTTP client, closed however the shop stops."""
    supplier = tapped(monkeypatch)
    service = app.create_app(app.Settings(secret_key=SECRET, database_url=db.url))

    async with running(service, cancelled=True) as client:
        prices = [(await client.get(f"/prices/{sku}")).text for sku in ("tea", "rice", "salt")]

    assert {"prices": prices, "supplier": supplier} == {
        "prices": ["450", "450", "450"],
        "supplier": [
            "client 1 asks /prices/tea",
            "client 1 asks /prices/rice",
            "client 1 asks /prices/salt",
            "client 1 is closed",
        ],
    }, "which HTTP client asked what, until the shop was killed"


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
    return datetime.utcnow()  # fault: UTC without its zone


def sent() -> datetime:
    return datetime.now()  # fault: local time without its zone


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

from datetime import datetime

from pydantic import BaseModel


class Order(BaseModel):
    placed: datetime
"""

TYPED = """
from collections.abc import Awaitable
from enum import Enum
from typing import Any


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


async def cancel(sku):  # fault: a function without types
    Remind().kiq(sku)  # fault: a coroutine that nobody awaits, in a function without types


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


def price(reply: dict[str, Any]) -> int:
    return reply["cents"]  # fault: whatever came for an int


def count(basket: dict) -> int:  # fault: a dict of whatever
    return len(basket)
"""


def plant(project, source):
    """Puts a module of our own in the place of each of the learner's."""
    for module in (project / "app").rglob("*.py"):
        module.write_text(source)


def missed(project, source, findings):
    """The planted faults that no finding points at, in one of the planted modules at least."""
    found = {(each.file, each.line) for each in findings}
    files = [module.relative_to(project).as_posix() for module in (project / "app").rglob("*.py")]
    return [
        line.partition("# fault: ")[2]
        for number, line in enumerate(source.splitlines(), 1)
        if "# fault: " in line and not all((file, number) in found for file in files)
    ]


async def test_pick_lint_rules_that_bite(project):
    """ruff finds what fails at run time, and nothing of it here; it spares Pydantic's imports."""
    (project / "app" / "read_by_pydantic.py").write_text(READ_BY_PYDANTIC)
    own = [f"{each.code} {each.file}:{each.line}" for each in ruff(project)]
    plant(project, LINTED)
    seen = {
        "not found": missed(project, LINTED, ruff(project)),
        "found in your files": [each for each in own if each.startswith(BITING)],
        "spoilt": [each for each in own if each.endswith(" app/read_by_pydantic.py:4")],
    }

    assert seen == {"not found": [], "found in your files": [], "spoilt": []}, (
        "planted faults; DTZ, S608, FAST, A and BLE in your files; an import that Pydantic reads"
    )


@pytest.mark.time_limit(60)
async def test_type_check_strictly(project):
    """mypy finds each of twelve faults in every module, coroutines never awaited among them."""
    plant(project, TYPED)

    left = missed(project, TYPED, mypy(project, "app"))

    assert left == [], "faults that mypy does not find in every module with this configuration"
