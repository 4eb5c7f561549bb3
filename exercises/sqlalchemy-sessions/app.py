"""The shop's orders: mend its sessions.

Customers order, pay and ask for invoices; the warehouse restocks. Every route works in a quiet
afternoon test. In the evening rush replies promise what was never stored, paid orders answer 500,
and the pool runs dry while everybody waits for somebody else's provider.

The tables, the routes and what they answer are right. What is wrong is when a session opens,
commits and closes. Mend that, and keep the routes, their status codes and their bodies.

`create_app(engine, ...)` takes the world outside as keywords:
`reward(session, order)`  the loyalty plug-in, other people's code, works in the order's session
`charge(price)`           the payment provider, slow; gives a reference
`supplier(sku)`           asks a supplier, slow; gives a Delivery that is not stored yet
`mail(invoice_id)`        sends an invoice, slow
`tick()`                  waits until it is time to look at an order's status again

Tasks may open sessions from `sessions`. A small shop runs this on SQLite, a large one on
PostgreSQL: both must work, and on SQLite units of work may wait for each other. Somebody may delete
an invoice while its mail goes out: its task may fail. What a failed `charge` leaves is not asked.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any
from uuid import uuid4

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection, ForeignKey, event, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Stock(Base):
    __tablename__ = "stock"
    sku: Mapped[str] = mapped_column(primary_key=True)
    price: Mapped[int]
    left: Mapped[int]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str]
    price: Mapped[int]
    status: Mapped[str] = mapped_column(default="new")


class Voucher(Base):
    __tablename__ = "vouchers"
    code: Mapped[str] = mapped_column(primary_key=True)


class Payment(Base):
    __tablename__ = "payments"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), unique=True)
    reference: Mapped[str | None]


class Invoice(Base):
    __tablename__ = "invoices"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    sent: Mapped[bool] = mapped_column(default=False)


class Delivery(Base):
    __tablename__ = "deliveries"
    number: Mapped[str] = mapped_column(primary_key=True)
    sku: Mapped[str]
    count: Mapped[int]


async def no_reward(session: AsyncSession, order: Order) -> None:
    """Gives nothing."""


async def free_of_charge(price: int) -> str:
    """Takes no money, gives a reference all the same."""
    return f"free of {price}"


async def a_dozen(sku: str) -> Delivery:
    """A delivery of twelve."""
    return Delivery(number=uuid4().hex, sku=sku, count=12)


async def no_mail(invoice_id: int) -> None:
    """Sends nothing."""


async def one_second() -> None:
    """Waits one second."""
    await asyncio.sleep(1)


# TODO commit-explicitly: what does this end in after a flush error that was swallowed?
async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session
        if session.is_active:
            await session.commit()


# TODO commit-before-reply: when does FastAPI leave this dependency?
SessionDep = Annotated[AsyncSession, Depends(open_session)]


async def find_order(session: AsyncSession, order_id: int) -> Order:
    """An order by its id; 404 where there is none."""
    order = await session.get(Order, order_id)
    if order is None:
        raise HTTPException(404, "no such order")
    return order


async def new_invoice(session: AsyncSession, order_id: int) -> Invoice:
    """An invoice for an order, flushed for its id; 404 where there is no such order."""
    order = await find_order(session, order_id)
    invoice = Invoice(order_id=order.id)
    session.add(invoice)
    await session.flush()
    return invoice


def create_app(
    engine: AsyncEngine,
    *,
    reward: Callable[[AsyncSession, Order], Awaitable[None]] = no_reward,
    charge: Callable[[int], Awaitable[str]] = free_of_charge,
    supplier: Callable[[str], Awaitable[Delivery]] = a_dozen,
    mail: Callable[[int], Awaitable[None]] = no_mail,
    tick: Callable[[], Awaitable[None]] = one_second,
) -> FastAPI:
    """The shop's orders on `engine`, with the world outside in the keywords."""
    # TODO begin-immediately-on-sqlite: when is a unit that reads first locked?
    app = FastAPI()
    # TODO keep-objects-after-commit: what can be read of an object after this session's commit?
    sessions = async_sessionmaker(engine)
    app.state.sessions = sessions

    @app.post("/orders/{sku}", status_code=201)
    async def place_order(sku: str, session: SessionDep) -> int:
        stock = await session.get(Stock, sku, with_for_update=True)
        if stock is None or stock.left < 1:
            raise HTTPException(409, f"{sku} is sold out")
        stock.left -= 1
        order = Order(sku=sku, price=stock.price)
        session.add(order)
        await session.flush()
        await reward(session, order)
        return order.id

    @app.post("/orders/{order_id}/payment", status_code=201)
    async def pay(order_id: int, session: SessionDep) -> str:
        order = await find_order(session, order_id)
        sku, payment = order.sku, Payment(order_id=order.id)
        session.add(payment)
        try:
            await session.commit()
        except IntegrityError:
            await session.rollback()
            raise HTTPException(409, f"the order of {sku} is paid already") from None
        payment.reference = await charge(order.price)
        order.status = "paid"
        return payment.reference

    # TODO open-one-session-a-task: whose work does a commit or rollback here end?
    async def restock(session: AsyncSession, sku: str) -> None:
        delivery = await supplier(sku)
        stock = await session.get_one(Stock, sku, with_for_update=True)
        stock.left += delivery.count
        session.add(delivery)
        await session.flush()

    @app.post("/restock")
    async def restock_all(skus: list[str], session: SessionDep) -> dict[str, bool]:
        tasks = [restock(session, sku) for sku in skus]
        done = await asyncio.gather(*tasks, return_exceptions=True)
        return {sku: outcome is None for sku, outcome in zip(skus, done, strict=True)}

    # TODO open-an-own-session-in-background: in what state is this session by then?
    async def send_invoice(session: AsyncSession, invoice: Invoice) -> None:
        await mail(invoice.id)
        invoice.sent = True
        await session.commit()

    @app.post("/orders/{order_id}/invoice", status_code=202)
    async def ask_for_invoice(order_id: int, session: SessionDep, tasks: BackgroundTasks) -> int:
        invoice = await new_invoice(session, order_id)
        tasks.add_task(send_invoice, session, invoice)
        return invoice.id

    async def statuses(order_id: int) -> AsyncIterator[str]:
        find = select(Order.status).where(Order.id == order_id)
        status: str | None = "unknown"
        # TODO hold-connections-briefly: who has a connection here while nobody uses it?
        async with sessions() as session:
            while status not in {"paid", None}:
                status = await session.scalar(find)
                yield f"data: {status}\n\n"
                await tick()

    @app.get("/orders/{order_id}/status")
    async def follow(order_id: int) -> StreamingResponse:
        return StreamingResponse(statuses(order_id), media_type="text/event-stream")

    return app
