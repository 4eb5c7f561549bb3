"""The shop's models: make the tables keep the promises of the classes.

The shop's five classes were written one afternoon, and the routes around them work. Since then a
warehouse program writes into the same database in plain SQL, the other branch sells from Karachi,
and migrations change the tables. Now rows turn up that no class would allow, times are off by
hours, and the same reply is a 500 in one route and three needless queries in the next.

The routes, their statuses and their bodies are right; so are the names of all classes, columns and
relationships. Mend the models, and what makes the connections ready. Both SQLite and PostgreSQL
must work.

Migrations and error messages know each constraint as pk_TABLE, uq_TABLE_COLUMNS, ck_TABLE_RULE or
fk_TABLE_COLUMNS_REFERRED, as in uq_customers_email; REFERRED is a table. A price is above 0,
never NULL; an e-mail address belongs to one customer, an order to one that exists. A product is
active and sold by the piece unless somebody says otherwise; plain SQL writes "piece" or "gram", no
other unit. A relationship that no query loaded is refused: it is neither fetched behind its
reader's back nor read as empty. Lines go with their order, whoever deletes it, without a statement
for them; a customer with orders stays. Each change of a product makes a new `updated_at`, and keeps
`created_at`. A time without its zone is refused; what is read is aware, and in UTC.

`create_app(engine)` has no other seam. It is called before the first connection of `engine`.
"""

from collections.abc import AsyncIterator, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar
from uuid import uuid4

from fastapi import Body, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    Dialect,
    Enum,
    ForeignKey,
    MetaData,
    String,
    TypeDecorator,
    UniqueConstraint,
    event,
    func,
    select,
    true,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    mapped_column,
    relationship,
    selectinload,
)
from sqlalchemy.orm.attributes import flag_modified

PREFERENCES: dict[str, Any] = {"language": "en", "channels": {"mail": True, "phone": False}}


class Unit(StrEnum):
    PIECE = "piece"
    GRAM = "gram"


class UTCDateTime(TypeDecorator[datetime]):
    """An instant: UTC in the database, aware and in UTC when it is read."""

    cache_ok = True
    impl = DateTime(timezone=True)

    # TODO store-utc: which instant is 12:00+05:00 once it was stored and read, on each database?
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value


class Base(DeclarativeBase):
    # TODO name-every-constraint: by which name could a migration drop one of these constraints?
    metadata = MetaData()
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: UTCDateTime}
    # TODO load-generated-values: who reads back what an UPDATE makes the database generate?


class Customer(Base):
    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(255), unique=True)
    # TODO give-each-row-its-own-default: how often is a default made, and how many rows have it?
    code: Mapped[str] = mapped_column(default=lambda: uuid4().hex)
    preferences: Mapped[dict[str, Any]] = mapped_column(JSON, default=PREFERENCES.copy)


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), index=True)
    placed_at: Mapped[datetime]
    # TODO raise-on-lazy-loads: which queries run though nobody asked for their rows?
    customer: Mapped[Customer] = relationship(lazy="selectin")
    lines: Mapped[list["OrderLine"]] = relationship(
        lazy="selectin",
        order_by="OrderLine.position",
        # TODO cascade-in-the-database: what becomes of the lines when plain SQL deletes an order?
        cascade="all, delete-orphan",
    )


class OrderLine(Base):
    __tablename__ = "order_lines"
    __table_args__ = (UniqueConstraint("order_id", "sku"), UniqueConstraint("order_id", "position"))

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    sku: Mapped[str] = mapped_column(String(20))
    position: Mapped[int]


class Product(Base):
    __tablename__ = "products"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    # TODO enforce-rules-in-the-database: which of these rules does a program in plain SQL meet?
    price: Mapped[int]
    is_active: Mapped[bool] = mapped_column(default=True)
    unit: Mapped[Unit] = mapped_column(default=Unit.PIECE)


def prepare(engine: AsyncEngine) -> None:
    """Make each connection of this engine ready for the models."""


class Shape(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ProductIn(Shape):
    name: str
    price: int


class ProductOut(ProductIn):
    id: int
    is_active: bool
    created_at: datetime
    updated_at: datetime


class CustomerIn(Shape):
    email: str
    mail: bool = True


class CustomerOut(Shape):
    id: int
    email: str
    code: str
    preferences: dict[str, Any]


class LineShape(Shape):
    sku: str
    position: int


class OrderIn(Shape):
    customer_id: int
    placed_at: AwareDatetime
    lines: list[LineShape]


class OrderOut(Shape):
    id: int
    placed_at: datetime


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session
        await session.commit()


Price = Annotated[int, Body(embed=True)]
SessionDep = Annotated[AsyncSession, Depends(open_session, scope="function")]


def create_app(engine: AsyncEngine) -> FastAPI:
    app = FastAPI()
    prepare(engine)
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)

    @app.exception_handler(IntegrityError)
    async def refuse(request: Request, error: IntegrityError) -> Response:
        return JSONResponse({"detail": "the database refuses this"}, 409)

    @app.post("/products", status_code=201, response_model=ProductOut)
    async def add_product(body: ProductIn, session: SessionDep) -> Product:
        product = Product(**body.model_dump())
        session.add(product)
        await session.flush()
        return product

    @app.get("/products")
    async def list_active(session: SessionDep) -> list[str]:
        active = select(Product.name).where(Product.is_active).order_by(Product.name)
        return list(await session.scalars(active))

    @app.patch("/products/{product_id}", response_model=ProductOut)
    async def change_price(product_id: int, price: Price, session: SessionDep) -> Product:
        changed = await session.get(Product, product_id)
        if changed is None:
            raise HTTPException(404, "no such product")
        changed.price = price
        await session.flush()
        return changed

    @app.post("/customers", status_code=201, response_model=CustomerOut)
    async def add_customer(body: CustomerIn, session: SessionDep) -> Customer:
        customer = Customer(email=body.email)
        session.add(customer)
        await session.flush()
        if not body.mail:
            customer.preferences["channels"]["mail"] = False
            flag_modified(customer, "preferences")
        return customer

    @app.post("/orders", status_code=201, response_model=OrderOut)
    async def place_order(body: OrderIn, session: SessionDep) -> Order:
        lines = [OrderLine(**line.model_dump()) for line in body.lines]
        order = Order(customer_id=body.customer_id, placed_at=body.placed_at, lines=lines)
        session.add(order)
        await session.flush()
        return order

    @app.get("/orders", response_model=list[OrderOut])
    async def list_orders(since: AwareDatetime, session: SessionDep) -> Sequence[Order]:
        found = select(Order).where(Order.placed_at >= since).order_by(Order.id)
        return (await session.scalars(found)).all()

    @app.delete("/orders/{order_id}", status_code=204, response_class=Response)
    async def delete_order(order_id: int, session: SessionDep) -> None:
        if order := await session.get(Order, order_id):
            await session.delete(order)

    @app.delete("/orders/{order_id}/lines/{position}", status_code=204, response_class=Response)
    async def delete_line(order_id: int, position: int, session: SessionDep) -> None:
        found = select(Order).where(Order.id == order_id).options(selectinload(Order.lines))
        if order := await session.scalar(found):
            order.lines = [line for line in order.lines if line.position != position]

    return app
