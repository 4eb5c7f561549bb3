"""The fixtures of the checks: ``app``, ``db``, ``start``, ``client`` and ``server``."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from types import ModuleType
from typing import Any

import pytest
from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient

from proven_backend.child import APP, FOLDER, STORY
from proven_backend.database import Observer, on_postgresql, sqlite
from proven_backend.story import Story

SERVER_URL = pytest.StashKey[str]()
Start = Callable[..., Awaitable[AsyncClient]]


@pytest.fixture
def app(pytestconfig: pytest.Config) -> ModuleType:
    """The module under grade, ``app.py`` of the topic's folder."""
    return pytestconfig.stash[APP]


@pytest.fixture
async def db(app: ModuleType, pytestconfig: pytest.Config) -> AsyncIterator[Observer]:
    """The database of this check, observed from outside: sees only what is committed."""
    story, server = pytestconfig.stash[STORY], pytestconfig.stash.get(SERVER_URL, None)
    opened = (
        on_postgresql(app, server, story)
        if server
        else sqlite(app, pytestconfig.stash[FOLDER], story)
    )
    async with opened as observer:
        yield observer


@pytest.fixture
async def start(app: ModuleType, db: Observer) -> AsyncIterator[Start]:
    """``client = await start(clock=fake)``: a client of ``create_app(db.engine, clock=fake)``."""
    async with AsyncExitStack() as stack:

        async def start(**seams: Any) -> AsyncClient:
            service = app.create_app(db.engine, **seams)
            return await stack.enter_async_context(_client(service, db.story))

        yield start


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


@asynccontextmanager
async def _client(service: FastAPI, story: Story) -> AsyncIterator[AsyncClient]:
    transport = ASGITransport(story.wrap(service), raise_app_exceptions=False)
    async with (
        service.router.lifespan_context(service),
        AsyncClient(transport=transport, base_url="http://shop") as client,
    ):
        yield client
