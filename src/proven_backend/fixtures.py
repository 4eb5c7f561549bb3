"""The fixtures of the checks: ``app``, ``db``, ``client`` and what else they ask for by name."""

import asyncio
import importlib
import itertools
import json
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
    suppress,
)
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient, AsyncHTTPTransport
from sqlalchemy import MetaData

from proven_backend.child import APP, FOLDER, PROGRAM, SLOT, STORY
from proven_backend.database import Observer, on_postgresql, sqlite
from proven_backend.loading import write
from proven_backend.processes import Process, until
from proven_backend.story import ASGIApp, Message, Receive, Send
from proven_backend.websocket import Peer

if TYPE_CHECKING:
    from redis.asyncio import Redis

SERVER_URL = pytest.StashKey[str]()
REDIS_URLS = pytest.StashKey[list[str]]()  # one for each slot
WEB = """
import json
from os import environ

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import create_async_engine

from app import create_app


def web():
    engine = create_async_engine(environ["DATABASE_URL"])
    redis = Redis.from_url(environ["REDIS_URL"])
    return create_app(engine, redis=redis, **json.loads(environ["SEAMS"]))
"""
Running = Callable[..., AbstractAsyncContextManager[AsyncClient]]
Serve = Callable[[FastAPI], Awaitable[AsyncClient]]
Start = Callable[..., Awaitable[AsyncClient]]
Launch = Callable[..., Awaitable[Process]]
Connect = Callable[..., Awaitable[Peer]]
SERVED = pytest.StashKey[dict[AsyncClient, ASGIApp]]()


@pytest.fixture
def app(pytestconfig: pytest.Config) -> ModuleType:
    """The module under grade, ``app.py`` of the topic's folder."""
    return pytestconfig.stash[APP]


@pytest.fixture
async def db(app: ModuleType, pytestconfig: pytest.Config) -> AsyncIterator[Observer]:
    """The database of this check, observed from outside: sees only what is committed."""
    async with _database(pytestconfig, app.Base.metadata) as observer:
        yield observer


@pytest.fixture
async def empty(pytestconfig: pytest.Config) -> AsyncIterator[Observer]:
    """Like ``db``, a second database, without any table."""
    async with _database(pytestconfig, None) as observer:
        yield observer


@asynccontextmanager
async def _database(config: pytest.Config, tables: MetaData | None) -> AsyncIterator[Observer]:
    story, server = config.stash[STORY], config.stash.get(SERVER_URL, None)
    name = f"check_{config.stash[SLOT]}{'_empty' if tables is None else ''}"
    opened = (
        on_postgresql(tables, server, name, story)
        if server
        else sqlite(tables, config.stash[FOLDER], story)
    )
    async with opened as observer:
        yield observer


@pytest.fixture
async def redis(pytestconfig: pytest.Config) -> "AsyncIterator[Redis]":
    """A client of an empty Redis; ``redis.another()`` is a new client of the same server.

    fakeredis in this process, or, with ``--redis``, a real server (then ``redis.url`` is its URL).
    """
    from fakeredis import FakeAsyncRedis, FakeServer  # here: few checks need them
    from redis.asyncio import Redis

    urls, fake = pytestconfig.stash.get(REDIS_URLS, []), FakeServer()
    url = urls[pytestconfig.stash[SLOT]] if urls else ""
    opened: list[Redis] = []

    def another() -> Redis:
        opened.append(Redis.from_url(url) if url else FakeAsyncRedis(server=fake))
        vars(opened[-1]).update(another=another, url=url)
        return opened[-1]

    first = another()
    await first.flushdb()
    yield first
    for client in opened:
        await client.aclose()


@pytest.fixture
def project(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The program's files in a folder of this check's own, which is the current one meanwhile.

    What is imported from there, and what is added to sys.path, is gone afterwards.
    """
    folder = pytestconfig.stash[FOLDER] / "project"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write(pytestconfig.stash[PROGRAM], folder)
    monkeypatch.chdir(folder)
    paths, known = sys.path.copy(), set(sys.modules)
    importlib.invalidate_caches()
    yield folder
    sys.path[:] = paths
    for name in set(sys.modules) - known:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(f"{folder}/"):
            del sys.modules[name]


@pytest.fixture
async def launch(project: Path) -> AsyncIterator[Launch]:
    """``worker = await launch("taskiq", "worker", "app:broker", URL=…)``: a real process.

    A command of this Python's environment, run in the program's folder with these variables; it
    ends with the check, with all that it started. No sandbox holds it: for the proof alone.
    """
    launched: list[Process] = []
    numbers = itertools.count()

    async def launch(command: str, *arguments: str, **variables: str) -> Process:
        log = project / f"{command}-{next(numbers)}.log"  # two may be launched at once
        launched.append(await Process.start(command, arguments, variables, log))
        return launched[-1]

    yield launch
    for process in launched:
        await process.kill()


@pytest.fixture
async def web(db: Observer, redis: "Redis", project: Path, launch: Launch) -> AsyncIterator[Start]:
    """``client = await web(limit=3)``: a client of a web process of its own, behind uvicorn.

    It serves ``create_app(engine, redis=…, limit=3)``, with an engine and a Redis of its own making
    on the databases of this check.
    """
    (project / "proven_web.py").write_text(WEB)
    numbers = itertools.count()
    async with AsyncExitStack() as stack:

        async def web(**seams: Any) -> AsyncClient:
            socket = f"web-{next(numbers)}"  # relative: the path of a socket has to be short
            process = await launch(
                *("uvicorn", "--factory", "proven_web:web", "--uds", socket),
                DATABASE_URL=db.url,
                REDIS_URL=vars(redis)["url"],
                SEAMS=json.dumps(seams),
            )
            await until(lambda: process.says("Uvicorn running"))
            # No timeout: a WebSocket may be silent for long.
            transport = AsyncHTTPTransport(uds=socket)
            client = AsyncClient(transport=transport, base_url="http://shop", timeout=None)
            return await stack.enter_async_context(client)

        yield web


@pytest.fixture
def running(pytestconfig: pytest.Config) -> Running:
    """``async with running(service) as client:``: a client of any FastAPI app from start to stop.

    With ``cancelled=True`` the app ends as at a server's second Ctrl-C, by a CancelledError.
    """
    story = pytestconfig.stash[STORY]
    served = pytestconfig.stash[SERVED] = {}

    @asynccontextmanager
    async def running(service: FastAPI, *, cancelled: bool = False) -> AsyncIterator[AsyncClient]:
        with suppress(asyncio.CancelledError) if cancelled else nullcontext():
            async with service.router.lifespan_context(service) as state:

                async def app(scope: Message, receive: Receive, send: Send) -> None:
                    await service({**scope, "state": dict(state or {})}, receive, send)

                transport = ASGITransport(story.wrap(app), raise_app_exceptions=False)
                async with AsyncClient(transport=transport, base_url="http://shop") as client:
                    served[client] = app
                    yield client
                if cancelled:
                    raise asyncio.CancelledError

    return running


@pytest.fixture
async def serve(running: Running) -> AsyncIterator[Serve]:
    """``client = await serve(service)``: a client of any FastAPI app over ASGI."""
    async with AsyncExitStack() as stack:

        async def serve(service: FastAPI) -> AsyncClient:
            return await stack.enter_async_context(running(service))

        yield serve


@pytest.fixture
async def start(app: ModuleType, db: Observer, serve: Serve) -> Start:
    """``client = await start(clock=fake)``: a client of ``create_app(db.engine, clock=fake)``."""

    async def start(**seams: Any) -> AsyncClient:
        return await serve(app.create_app(db.engine, **seams))

    return start


@pytest.fixture
async def client(start: Start) -> AsyncClient:
    """A client of ``create_app(db.engine)`` over ASGI; a crash in the app is a 500 response."""
    return await start()


@pytest.fixture
async def server(app: ModuleType, db: Observer) -> AsyncIterator[AsyncClient]:
    """A client of ``create_app(db.engine)`` behind a real uvicorn on the loopback interface."""
    import uvicorn  # here: few checks need it, and it takes long to import

    service = db.story.wrap(app.create_app(db.engine))
    config = uvicorn.Config(service, host="127.0.0.1", port=0, log_config=None, lifespan="on")
    config.load()
    uvicorn_server = uvicorn.Server(config)
    uvicorn_server.lifespan = config.lifespan_class(config)
    await uvicorn_server.startup()
    port = uvicorn_server.servers[0].sockets[0].getsockname()[1]
    try:
        async with AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield client
    finally:
        await uvicorn_server.shutdown()


@pytest.fixture
async def connect(serve: Serve, pytestconfig: pytest.Config) -> AsyncIterator[Connect]:
    """``peer = await connect("/orders/1/live", headers={…}, cookies={…}, subprotocols=[…])``.

    A WebSocket to the app that was started last, or to another one: ``to=client``.
    """
    peers = list[Peer]()

    async def connect(path: str, to: AsyncClient | None = None, **options: Any) -> Peer:
        served = pytestconfig.stash[SERVED]
        app = served[to or list(served)[-1]]
        peers.append(Peer(app, pytestconfig.stash[STORY], path, **options))
        return await peers[-1].opened()

    yield connect
    for peer in peers:
        peer.task.cancel()
    await asyncio.gather(*(peer.task for peer in peers), return_exceptions=True)
