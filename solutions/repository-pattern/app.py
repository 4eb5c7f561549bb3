"""The orders of a small shop, read and written through one repository.

Ada and Ben order tea here. A gateway has checked who calls and sends the name in the header
`customer`. The dependency `open_session` commits once, when the route is done. Scripts and
workers use the same repository in a session of their own, without any route.

Ready: the models, the routes, the session, and `SORTS`, the keys by which a client may sort.
Yours: the methods of `OrderRepository(session, customer)`; keep their names and arguments.
`get`, `cart`, `cancel` and `set_quantity` answer None where this customer has no such order, or
that order no such line. Only what `get` answers is shown with its lines. `search` finds the orders
that hold the term in their note or address as it was typed; a sort key that `SORTS` lacks sorts by
id. `change` gets whatever JSON object the web form or the courier sent: it stores note and address,
empty ones too, keeps what is not sent, and ignores every other name. An order's `total` is what its
lines cost.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ForeignKey, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import (
    DeclarativeBase,
    InstrumentedAttribute,
    Mapped,
    mapped_column,
    relationship,
    selectinload,
)


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    status: Mapped[str] = mapped_column(default="open")
    note: Mapped[str] = mapped_column(default="")
    address: Mapped[str] = mapped_column(default="")
    total: Mapped[int] = mapped_column(server_default=text("0"))
    lines: Mapped[list["OrderLine"]] = relationship(cascade="all, delete-orphan")

    def add_up(self) -> None:
        """Bring the total in step with the lines, which must be loaded."""
        self.total = sum(line.price * line.quantity for line in self.lines)


class OrderLine(Base):
    __tablename__ = "order_lines"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    sku: Mapped[str]
    price: Mapped[int]
    quantity: Mapped[int] = mapped_column(default=1)


SORTS: dict[str, InstrumentedAttribute[Any]] = {"total": Order.total, "status": Order.status}


class OrderRepository:
    """The orders of one customer, lines included, in the session of the caller."""

    def __init__(self, session: AsyncSession, customer: str) -> None:
        self.session = session
        self.customer = customer

    async def add(self, order: Order) -> Order:
        """Store a new order of this customer; it has its id afterwards."""
        order.customer = self.customer
        self.session.add(order)
        await self.session.flush()
        return order

    async def cart(self) -> Order | None:
        """Find the order that is still open, without its lines."""
        query = select(Order).where(Order.customer == self.customer, Order.status == "open")
        return await self.session.scalar(query.order_by(Order.id).limit(1))

    async def get(self, order_id: int) -> Order | None:
        """Find one order, ready to show with its lines."""
        query = select(Order).where(Order.id == order_id, Order.customer == self.customer)
        return await self.session.scalar(query.options(selectinload(Order.lines)))

    async def cancel(self, order_id: int) -> Order | None:
        """Cancel one order and answer it, without its lines."""
        mine = (Order.id == order_id) & (Order.customer == self.customer)
        change = update(Order).where(mine).values(status="cancelled")
        return await self.session.scalar(change.returning(Order))

    async def change(self, order: Order, changes: Mapping[str, str]) -> Order:
        """Write those of the changes that a customer may make: note and address."""
        for name in changes.keys() & {"note", "address"}:
            setattr(order, name, changes[name])
        await self.session.flush()
        return order

    async def set_quantity(self, order_id: int, line_id: int, quantity: int) -> Order | None:
        """Change how many of one line's product are ordered, and the total with it."""
        order = await self.get(order_id)
        line = next((line for line in order.lines if line.id == line_id), None) if order else None
        if order is None or line is None:
            return None
        line.quantity = quantity
        order.add_up()
        await self.session.flush()
        return order

    async def search(self, term: str, sort: str) -> Sequence[Order]:
        """List the orders with the term in their note or address."""
        found = or_(
            Order.note.contains(term, autoescape=True),
            Order.address.contains(term, autoescape=True),
        )
        query = select(Order).where(Order.customer == self.customer, found)
        query = query.order_by(SORTS.get(sort, Order.id), Order.id)
        return (await self.session.scalars(query)).all()


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session
        await session.commit()


async def open_orders(
    session: Annotated[AsyncSession, Depends(open_session, scope="function")],
    customer: Annotated[str, Header()],
) -> OrderRepository:
    return OrderRepository(session, customer)


Orders = Annotated[OrderRepository, Depends(open_orders)]
Id = Annotated[int, Path(ge=1, lt=2**31)]


class LineShape(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    sku: str
    price: int
    quantity: int


class OrderShape(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    status: str
    note: str
    address: str
    total: int


class FullOrder(OrderShape):
    lines: list[LineShape]


def create_app(engine: AsyncEngine) -> FastAPI:
    app = FastAPI()
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)

    @app.post("/orders", status_code=201, response_model=FullOrder)
    async def place_order(orders: Orders, lines: list[LineShape]) -> Order:
        order = Order(lines=[OrderLine(**line.model_dump()) for line in lines])
        order.add_up()
        return await orders.add(order)

    @app.get("/orders", response_model=list[OrderShape])
    async def search_orders(orders: Orders, term: str = "", sort: str = "") -> Sequence[Order]:
        return await orders.search(term, sort)

    @app.get("/orders/{order_id}", response_model=FullOrder)
    async def show_order(orders: Orders, order_id: Id) -> Order:
        return _found(await orders.get(order_id))

    @app.patch("/orders/{order_id}", response_model=OrderShape)
    async def change_order(orders: Orders, order_id: Id, changes: dict[str, str]) -> Order:
        return await orders.change(_found(await orders.get(order_id)), changes)

    @app.delete("/orders/{order_id}", status_code=204, response_class=Response)
    async def cancel_order(orders: Orders, order_id: Id) -> None:
        _found(await orders.cancel(order_id))

    @app.put("/orders/{order_id}/lines/{line_id}", status_code=204, response_class=Response)
    async def set_quantity(
        orders: Orders, order_id: Id, line_id: Id, quantity: Annotated[int, Query(gt=0, lt=100)]
    ) -> None:
        _found(await orders.set_quantity(order_id, line_id, quantity))

    return app


def _found(order: Order | None) -> Order:
    if order is None:
        raise HTTPException(404, "no such order")
    return order
