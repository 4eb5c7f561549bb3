"""The shop gets busy: baskets, deliveries, apologies, sales, payments and a supplier's price list.

Each request is one transaction. `open_session` begins it, commits it once the route has returned,
and rolls it back when the route raises. Tables, request bodies, `unpack` and `send_present` are
right as they are. A basket with an unknown voucher is a 409; so are a voucher code given before and
a sale of more than is left. A payment carries an Idempotency-Key: the same payment again is
answered as the first was (201, the same id), another customer or amount under the same key is a
409. POST /products takes a list of skus and tells how many were new, {"inserted": 2}; an empty list
is {"inserted": 0}. On SQLite the driver's own mode is kept: it opens a transaction at the first
write, so a savepoint that comes earlier is a transaction of its own, and its RELEASE commits.

`create_app(engine)` takes no other keywords.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel, Field
from sqlalchemy import ForeignKey, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """All tables of the shop."""


class Product(Base):
    __tablename__ = "products"
    sku: Mapped[str] = mapped_column(primary_key=True)
    left: Mapped[int] = mapped_column(default=0)


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    customer: Mapped[str]


class Line(Base):
    """One piece of a product: in an order, or still in the house."""

    __tablename__ = "lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str]
    order_id: Mapped[UUID | None] = mapped_column(ForeignKey("orders.id"))
    order: Mapped[Order | None] = relationship()


class Voucher(Base):
    __tablename__ = "vouchers"
    code: Mapped[str] = mapped_column(primary_key=True)


class Delivery(Base):
    __tablename__ = "deliveries"
    id: Mapped[int] = mapped_column(primary_key=True)
    truck: Mapped[str]


class Parcel(Base):
    __tablename__ = "parcels"
    code: Mapped[str] = mapped_column(primary_key=True)


class Payment(Base):
    __tablename__ = "payments"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    customer: Mapped[str]
    cents: Mapped[int]


class Basket(BaseModel):
    customer: str
    skus: list[str]
    voucher: str


class Contents(BaseModel):
    code: str
    skus: list[str]


class Charge(BaseModel):
    customer: str
    cents: int = Field(gt=0, le=1_000_000)


async def unpack(session: AsyncSession, parcel: Contents) -> None:
    """Books a parcel, then what is in it.

    Raises IntegrityError for a parcel booked before, LookupError for a product unknown here.
    """
    session.add(Parcel(code=parcel.code))
    for sku in parcel.skus:
        if await session.get(Product, sku) is None:
            raise LookupError(sku)
        session.add(Line(sku=sku))
    await session.flush()


async def give_voucher(session: AsyncSession, code: str) -> None:
    """Stores a new voucher; raises IntegrityError where the code is taken."""
    session.add(Voucher(code=code))
    await session.flush()


async def send_present(session: AsyncSession, sku: str) -> None:
    """Puts a product into an order of its own; raises LookupError for a product unknown here."""
    if await session.get(Product, sku) is None:
        raise LookupError(sku)
    session.add(Line(sku=sku, order=Order(customer="apology")))


def insert_into(session: AsyncSession, model: type[Base]) -> postgresql.Insert | sqlite.Insert:
    """An INSERT of the database in use, which knows ON CONFLICT."""
    on_postgresql = session.get_bind().dialect.name == "postgresql"
    return postgresql.insert(model) if on_postgresql else sqlite.insert(model)


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    """The request's transaction: committed before the reply, unless the route raises."""
    async with request.app.state.sessions() as session:
        yield session
        await session.commit()


SessionDep = Annotated[AsyncSession, Depends(open_session, scope="function")]


def create_app(engine: AsyncEngine) -> FastAPI:
    """The shop on this engine."""
    app = FastAPI()
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)

    @app.post("/orders", status_code=201)
    async def place_order(basket: Basket, session: SessionDep) -> dict[str, UUID]:
        order = Order(customer=basket.customer)
        session.add(order)
        session.add_all(Line(sku=sku, order=order) for sku in basket.skus)
        spent = await session.scalar(
            delete(Voucher).where(Voucher.code == basket.voucher).returning(Voucher.code)
        )
        if spent is None:
            raise HTTPException(409, "no such voucher")
        return {"id": order.id}

    @app.post("/deliveries", status_code=201)
    async def receive(
        truck: str, parcels: list[Contents], session: SessionDep
    ) -> dict[str, list[str]]:
        session.add(Delivery(truck=truck))
        refused = []
        for parcel in parcels:
            try:
                async with session.begin_nested():
                    await unpack(session, parcel)
            except (IntegrityError, LookupError):
                refused.append(parcel.code)
        return {"refused": refused}

    @app.post("/apologies", status_code=201)
    async def apologise(voucher: str, present: str, session: SessionDep) -> None:
        try:
            await give_voucher(session, voucher)
        except IntegrityError as error:
            raise HTTPException(409, "this code was given before") from error
        try:
            await send_present(session, present)
        except LookupError as error:
            raise HTTPException(409, "no such product") from error

    @app.post("/products/{sku}/sales")
    async def sell(sku: str, session: SessionDep) -> dict[str, int]:
        left = await session.scalar(
            update(Product)
            .where(Product.sku == sku, Product.left >= 1)
            .values(left=Product.left - 1)
            .returning(Product.left)
        )
        if left is None:
            raise HTTPException(409, "sold out")
        return {"left": left}

    @app.post("/payments", status_code=201)
    async def pay(
        charge: Charge, idempotency_key: Annotated[str, Header()], session: SessionDep
    ) -> dict[str, Any]:
        values = {"key": idempotency_key, **charge.model_dump()}
        claim = insert_into(session, Payment).values(values).on_conflict_do_nothing()
        payment = await session.scalar(claim.returning(Payment))
        if payment is None:
            stored = select(Payment).where(Payment.key == idempotency_key)
            payment = (await session.scalars(stored)).one()
        if (payment.customer, payment.cents) != (charge.customer, charge.cents):
            raise HTTPException(409, "this key belongs to another payment")
        return {"id": payment.id, "cents": payment.cents}

    @app.post("/products")
    async def import_products(skus: list[str], session: SessionDep) -> dict[str, int]:
        rows = [{"sku": sku} for sku in sorted(skus)]
        if not rows:
            return {"inserted": 0}
        insert = insert_into(session, Product).on_conflict_do_nothing()
        inserted = await session.scalars(insert.returning(Product.sku), rows)
        return {"inserted": len(inserted.all())}

    return app
