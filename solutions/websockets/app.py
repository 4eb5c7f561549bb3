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

    async def tell(self, message: str) -> None:
        try:
            self.outbox.put_nowait(message)
        except asyncio.QueueFull:
            self.late.set()

    async def write(self, *first: str) -> None:
        for message in first:
            await self.socket.send_text(message)
        while True:
            await self.socket.send_text(await self.outbox.get())

    async def read(self, heard: Heard) -> None:
        while True:
            message = await self.socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"])
            try:
                note = Note.model_validate_json(message.get("text") or message.get("bytes") or "")
            except ValidationError:
                await self.tell('{"error": "this is no note"}')
            else:
                await heard(note.note)
            await asyncio.sleep(0)  # the pages of the others get their turn

    async def talk(self, heard: Heard, *first: str) -> None:
        works = [self.read(heard), self.write(*first), self.late.wait()]
        tasks = [asyncio.create_task(work) for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()


class Rooms:
    """The open pages of each order, in this process."""

    def __init__(self) -> None:
        self.open: dict[int, set[Page]] = {}

    def enter(self, order_id: int, page: Page) -> None:
        self.open.setdefault(order_id, set()).add(page)

    def leave(self, order_id: int, page: Page) -> None:
        self.open[order_id].remove(page)
        if not self.open[order_id]:
            del self.open[order_id]

    def pages(self, order_id: int) -> list[Page]:
        return list(self.open.get(order_id, ()))


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
        if redis is None:
            await tell(order_id, message)
        else:
            await redis.publish("orders", json.dumps([order_id, message]))

    app = FastAPI(lifespan=hear_the_others)

    async def from_our_pages(socket: WebSocket) -> None:
        if socket.headers.get("origin") not in origins:
            raise WebSocketException(1008)

    async def member(session: AsyncSession, socket: WebSocket, order_id: int) -> str | None:
        token = socket.cookies.get("session", "")
        find = select(Member.customer).join(Login, Login.customer == Member.customer)
        find = find.where(Login.digest == digest(token), Member.order_id == order_id)
        return await session.scalar(find)

    @app.websocket("/orders/{order_id}/live", dependencies=[Depends(from_our_pages)])
    async def live(socket: WebSocket, order_id: OrderId) -> None:
        async with sessions() as session:
            customer = await member(session, socket, order_id)
        if customer is None:
            raise WebSocketException(1008)
        await socket.accept()
        page = Page(socket, customer, backlog)

        async def heard(note: str) -> None:
            message = {"note": await screen(note), "by": page.customer}
            await announce(order_id, json.dumps(message))

        rooms.enter(order_id, page)
        try:
            async with sessions() as look:
                progress = await look.scalar(select(Order.progress).filter_by(id=order_id))
            await page.talk(heard, json.dumps({"progress": progress}))
        except WebSocketDisconnect:
            pass
        finally:
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
