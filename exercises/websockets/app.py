"""The page of a shared order: mend its WebSocket.

Friends order together. Each keeps the order's page open, in as many tabs as they like, sees how far
the warehouse has packed it, and writes notes to the others. In the demonstration that worked. In
December strangers read along, half of the friends hear nothing, a phone that went into a tunnel
stops all the others, and the database has no connection left.

`/orders/{id}/live` is the WebSocket. The browser sends the cookie `session`; the `digest` of it is
a Login's. Members of the order come in. All others are refused before the accept, with whatever
status. No secret is taken from an address.
    The page gets   {"progress": 40} first, and again whenever it changes; {"note": …, "by": …} for
                    each member's note, its own too; {"error": …} for what it sent and is no note.
    The page sends  {"note": "Hurry!"}, 1 to 500 characters and nothing else, as text or as bytes.
`PUT /orders/{id}/progress` with {"progress": 40} and `GET /orders/{id}/watchers`, the number of
pages that are open at this process, are the warehouse's, behind a gate of its own.

`create_app(engine, ...)` takes as keywords:
`origins`       the origins of the shop's own pages
`backlog`       how many messages may wait for one page; a page that is further behind is let go,
                one that reads is not, even when a member sends a burst
`screen(note)`  cleans a note of bad words: other people's code, slow, raises what it likes
`redis`         with it several processes serve the shop, and a page may be at any of them: what one
                publishes there, all of them tell their own pages. Without it there is one process.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Body, Depends, FastAPI, HTTPException, Path, WebSocket, WebSocketDisconnect
from fastapi.exceptions import WebSocketException
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import ForeignKey, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

OrderId = Annotated[int, Path(ge=1, lt=2**31)]
Percent = Annotated[int, Body(ge=0, le=100, embed=True)]
Heard = Callable[[str], Awaitable[None]]


class Base(DeclarativeBase):
    pass


class Login(Base):
    __tablename__ = "logins"
    digest: Mapped[str] = mapped_column(primary_key=True)
    customer: Mapped[str]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    progress: Mapped[int] = mapped_column(default=0)


class Member(Base):
    __tablename__ = "members"
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    customer: Mapped[str] = mapped_column(primary_key=True)


class Note(BaseModel):
    model_config = ConfigDict(extra="forbid")

    note: str = Field(min_length=1, max_length=500)


def digest(token: str) -> str:
    """What the shop stores of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


async def unscreened(note: str) -> str:
    """The note as it is."""
    return note


class Page:
    """An open page of a customer: `talk` with it until it ends, `tell` it something meanwhile."""

    def __init__(self, socket: WebSocket, customer: str, backlog: int) -> None:
        self.socket, self.customer = socket, customer
        self.outbox: asyncio.Queue[str] = asyncio.Queue(backlog)
        self.late = asyncio.Event()

    # TODO shield-the-room-from-one-peer: whom does a page harm that is slow, lost or rude?
    async def tell(self, message: str) -> None:
        await self.socket.send_text(message)

    async def talk(self, heard: Heard, *first: str) -> None:
        for message in first:
            await self.tell(message)
        while True:
            message = await self.socket.receive_json()
            await heard(message["note"])


class Rooms:
    """The open pages of each order, in this process."""

    # TODO track-connections-not-users: what if ann opens a second tab, or lands elsewhere?
    def __init__(self) -> None:
        self.open: dict[int, dict[str, Page]] = {}

    def enter(self, order_id: int, page: Page) -> None:
        self.open.setdefault(order_id, {})[page.customer] = page

    def leave(self, order_id: int, page: Page) -> None:
        self.open.get(order_id, {}).pop(page.customer, None)
        if not self.open.get(order_id):
            self.open.pop(order_id, None)

    def pages(self, order_id: int) -> list[Page]:
        return list(self.open.get(order_id, {}).values())


def create_app(
    engine: AsyncEngine,
    *,
    origins: Collection[str] = ("https://shop.example",),
    backlog: int = 100,
    screen: Callable[[str], Awaitable[str]] = unscreened,
    redis: Redis | None = None,
) -> FastAPI:
    """The pages of shared orders on `engine`."""
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    rooms = Rooms()

    async def tell(order_id: int, message: str) -> None:
        for page in rooms.pages(order_id):
            await page.tell(message)

    async def relay(redis: Redis, ready: asyncio.Event) -> None:
        while True:
            try:
                async with redis.pubsub() as heard:
                    await heard.subscribe("orders")
                    ready.set()
                    async for message in heard.listen():
                        if message["type"] == "message":
                            await tell(*json.loads(message["data"]))
            except RedisError:  # what was missed is told to the pages as they come back
                for order_id in rooms.open:
                    for page in rooms.pages(order_id):
                        page.late.set()
                await asyncio.sleep(1)

    @asynccontextmanager
    async def hear_the_others(app: FastAPI) -> AsyncIterator[None]:
        if redis is None:
            yield
            return
        ready = asyncio.Event()
        relaying = asyncio.create_task(relay(redis, ready))
        await ready.wait()
        yield
        relaying.cancel()
        await asyncio.wait([relaying], timeout=5)

    async def announce(order_id: int, message: str) -> None:
        await tell(order_id, message)

    app = FastAPI(lifespan=hear_the_others)

    # TODO check-the-origin: whose pages does this let in besides ours?
    async def from_our_pages(socket: WebSocket) -> None:
        if not socket.headers.get("origin", "").startswith(tuple(origins)):
            raise WebSocketException(1008)

    # TODO authenticate-before-accept: whom does this let in, and to which orders?
    async def member(session: AsyncSession, socket: WebSocket, order_id: int) -> str | None:
        token = socket.cookies.get("session", "")
        find = select(Login.customer)
        find = find.where(Login.digest == digest(token))
        return await session.scalar(find)

    # TODO hold-no-session: how long does each open page keep this session?
    async def open_session() -> AsyncIterator[AsyncSession]:
        async with sessions() as session:
            yield session

    @app.websocket("/orders/{order_id}/live", dependencies=[Depends(from_our_pages)])
    async def live(
        socket: WebSocket,
        order_id: OrderId,
        session: Annotated[AsyncSession, Depends(open_session)],
    ) -> None:
        customer = await member(session, socket, order_id)
        if customer is None:
            raise WebSocketException(1008)
        await socket.accept()
        page = Page(socket, customer, backlog)

        async def heard(note: str) -> None:
            message = {"note": await screen(note), "by": page.customer}
            await announce(order_id, json.dumps(message))

        # TODO send-the-present-state-first: what if the progress changes between these lines?
        async with sessions() as look:
            progress = await look.scalar(select(Order.progress).filter_by(id=order_id))
        rooms.enter(order_id, page)
        try:
            await page.talk(heard, json.dumps({"progress": progress}))
        # TODO always-clean-up: what else ends a talk?
        except WebSocketDisconnect:
            rooms.leave(order_id, page)

    @app.put("/orders/{order_id}/progress", status_code=204)
    async def pack(order_id: OrderId, progress: Percent) -> None:
        async with sessions.begin() as session:
            order = await session.get(Order, order_id)
            if order is None:
                raise HTTPException(404, "no such order")
            order.progress = progress
        await announce(order_id, json.dumps({"progress": progress}))

    @app.get("/orders/{order_id}/watchers")
    async def watchers(order_id: OrderId) -> int:
        return len(rooms.pages(order_id))

    return app
