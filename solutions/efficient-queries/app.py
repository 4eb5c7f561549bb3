"""The shop's back office: mend its queries.

With ten orders every screen was quick and right. With ten thousand the board takes a minute, the
pages of the catalogue repeat products, and the import of a supplier's price list fails at night.
The models and routes are right; each function below them asks the database in a wrong way.

Routes, scripts and workers call these functions in a session of their own, which flushes before
each query as sessions do, and commit or roll it back themselves: the functions never do. Keep their
names, arguments and what they answer; PAGE and MOST are the sizes of a page:
`board`            the oldest new orders, PAGE of them, shown with customer and all lines; one
                   without lines is shown too
`catalogue`        page 1, 2, … of the products, cheapest first, PAGE to a page; two suppliers may
                   sell the same sku
`orders_of`        PAGE orders of a customer, newest day first, and the token of the next page, None
                   after a page that is not full; orders come and go between two pages. Tokens are
                   sealed for clients
`search`           the newest orders with one of these products: `limit` of them, but one at the
                   least and MOST at the most, whatever a script asks for
`import_products`  stores a price list of any length, none too, with few statements of 10,000
                   parameters at the most. A row may lack "left" (0), "unit" ("piece") and "note"
                   (None); what is sent is stored as it is, a None as NULL
`balances`         for each order by id: its id, how many lines, what they cost, and what is paid;
                   four statements at the most, however many orders there are
`current`          an order of the session, with its customer and lines, as the database has them
                   now, also where the session has read them before; None where it is gone. Nothing
                   else changes: what the caller has not flushed is kept, and each object in the
                   session stays readable
"""

from collections.abc import AsyncIterator, Sequence
from datetime import date
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ForeignKey, Index, Row, func, insert, select, tuple_
from sqlalchemy.ext.asyncio import AsyncAttrs, AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

PAGE, MOST = 5, 20


class Base(AsyncAttrs, DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Order(Base):
    __tablename__ = "orders"
    __table_args__ = (Index("ix_orders_of_customer", "customer_id", "placed_on", "id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    placed_on: Mapped[date]
    status: Mapped[str] = mapped_column(default="new")
    customer: Mapped[Customer] = relationship()
    lines: Mapped[list["OrderLine"]] = relationship(order_by="OrderLine.id")


class OrderLine(Base):
    __tablename__ = "order_lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    sku: Mapped[str]
    price: Mapped[int]


class Payment(Base):
    __tablename__ = "payments"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    amount: Mapped[int]


class Product(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str]
    name: Mapped[str]
    price: Mapped[int]
    weight: Mapped[int]
    supplier: Mapped[str]
    left: Mapped[int] = mapped_column(default=0)
    unit: Mapped[str | None] = mapped_column(server_default="piece")
    note: Mapped[str | None]


async def board(session: AsyncSession) -> Sequence[Order]:
    """The oldest new orders, with customer and lines."""
    query = select(Order).where(Order.status == "new").order_by(Order.placed_on, Order.id)
    query = query.limit(PAGE)
    query = query.options(joinedload(Order.customer), selectinload(Order.lines))
    return (await session.scalars(query)).all()


async def catalogue(session: AsyncSession, page: int) -> Sequence[Product]:
    """One page of the products, cheapest first."""
    query = select(Product).offset((page - 1) * PAGE).limit(PAGE)
    query = query.order_by(Product.price, Product.id)
    return (await session.scalars(query)).all()


async def orders_of(
    session: AsyncSession, customer_id: int, after: str | None
) -> tuple[Sequence[Order], str | None]:
    """The customer's orders behind a token, newest first, and the token of the next page."""
    query = select(Order).where(Order.customer_id == customer_id).limit(PAGE)
    query = query.order_by(Order.placed_on.desc(), Order.id.desc())
    if after:
        day, number = after.split("_")
        key = date.fromisoformat(day), int(number)
        query = query.where(tuple_(Order.placed_on, Order.id) < key)
    orders = (await session.scalars(query)).all()
    following = f"{orders[-1].placed_on}_{orders[-1].id}" if orders else None
    return orders, following if len(orders) == PAGE else None


async def search(session: AsyncSession, skus: Sequence[str], limit: int) -> Sequence[Order]:
    """The newest orders with one of these products, at most MOST."""
    query = select(Order).where(Order.lines.any(OrderLine.sku.in_(skus))).order_by(Order.id.desc())
    query = query.limit(min(max(limit, 1), MOST))
    return (await session.scalars(query)).all()


async def import_products(session: AsyncSession, rows: Sequence[dict[str, Any]]) -> None:
    """Store the products of a price list."""
    whole = [{"left": 0, "unit": "piece", "note": None} | row for row in rows]
    if whole:
        await session.execute(insert(Product), whole, execution_options={"render_nulls": True})


async def balances(session: AsyncSession) -> Sequence[Row[*tuple[Any, ...]]]:
    """For each order by id: its id, how many lines, what they cost, what is paid."""
    lines = select(func.count(OrderLine.id)).where(OrderLine.order_id == Order.id)
    due = select(func.coalesce(func.sum(OrderLine.price), 0)).where(OrderLine.order_id == Order.id)
    paid = select(func.coalesce(func.sum(Payment.amount), 0)).where(Payment.order_id == Order.id)
    columns = (part.scalar_subquery() for part in (lines, due, paid))
    return (await session.execute(select(Order.id, *columns).order_by(Order.id))).all()


async def current(session: AsyncSession, order_id: int) -> Order | None:
    """An order with its customer and lines, as the database has them now."""
    query = select(Order).where(Order.id == order_id)
    query = query.options(joinedload(Order.customer), selectinload(Order.lines))
    return await session.scalar(query.execution_options(populate_existing=True))


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(open_session, scope="function")]


class Shape(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class OrderShape(Shape):
    id: int
    placed_on: date


class OrderPage(BaseModel):
    orders: list[OrderShape]
    next: str | None


class CustomerShape(Shape):
    name: str


class LineShape(Shape):
    sku: str


class BoardShape(OrderShape):
    customer: CustomerShape
    lines: list[LineShape]


class ProductShape(Shape):
    sku: str
    price: int


def create_app(engine: AsyncEngine) -> FastAPI:
    """The back office on `engine`."""
    app = FastAPI()
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)

    @app.get("/board", response_model=list[BoardShape])
    async def show_board(session: SessionDep) -> Sequence[Order]:
        return await board(session)

    @app.get("/products", response_model=list[ProductShape])
    async def show_catalogue(
        session: SessionDep, page: Annotated[int, Query(ge=1, le=1000)] = 1
    ) -> Sequence[Product]:
        return await catalogue(session, page)

    @app.get("/customers/{customer_id}/orders", response_model=OrderPage)
    async def show_orders(
        session: SessionDep, customer_id: int, after: str | None = None
    ) -> dict[str, Any]:
        orders, following = await orders_of(session, customer_id, after)
        return {"orders": orders, "next": following}

    return app
