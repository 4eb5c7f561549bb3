"""The customers' desk: what may come in, and what goes out.

The web shop, an old form and a few partners send JSON here. Other programs read for years what is
stored, and clients are generated from the OpenAPI document. The desk answers 422 to what it cannot
use, a misspelled field among it, before the database has to.

    POST  /customers                  email, name, phone (may be left out)
    GET   /customers?email=           one customer, however the e-mail is spelled
    PATCH /customers/{id}             name, phone (null takes it away); left out means as it was
    POST  /customers/{id}/orders      deliver_at, lines, vouchers, gift (a text of JSON, see `Gift`)
    GET   /customers/{id}/orders      the orders, each with its total in cents

    name         1 to 80 characters, none below U+0020 (NUL, line breaks); in a gift too
    phone        + and 7 to 15 digits from 0 to 9
    email        up to 254 characters, as sent and as stored
    lines        1 to 50, each of 1 to 1000 pieces, at the price of its day
    vouchers     up to 5, each of 4 to 12 capital letters and digits
    deliver_at   with an offset, from 2020-01-01T00:00Z until just before 2100-01-01T00:00Z; the
                 answer is an ISO text in UTC

An e-mail that another customer has is a 409, also with other capitals, with blanks around it or
with é as two characters. Any other difference makes another person: weiß@, weiss@ and weiss+tea@
are three. Id and balance are the shop's own, clients only read them. Customers of former years may
have an e-mail, a name or a phone that would be refused today: they are answered as they are stored.

There already: tables, session and routes.
"""

import unicodedata
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Path, Request
from pydantic import (
    MISSING,
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    StringConstraints,
    computed_field,
)
from sqlalchemy import JSON, DateTime, ForeignKey, String, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

PRICES = {"TEA-0001": 450, "JAM-0002": 320}


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    name: Mapped[str] = mapped_column(String(80))
    phone: Mapped[str | None] = mapped_column(String(40))
    balance: Mapped[int] = mapped_column(default=0)


class Line(Base):
    __tablename__ = "lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    sku: Mapped[str]
    quantity: Mapped[int]
    price: Mapped[int]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    deliver_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    vouchers: Mapped[list[str]] = mapped_column(JSON)
    gift: Mapped[dict[str, str] | None] = mapped_column(JSON)
    lines: Mapped[list[Line]] = relationship(order_by=Line.id)


class Input(BaseModel):
    # TODO forbid-unknown-fields: what becomes of a field that no class names?
    model_config = ConfigDict()


def one_spelling(email: str) -> str:
    # TODO normalise-what-must-be-unique: how else can a customer write the same address?
    name, _, host = email.rpartition("@")
    return f"{name}@{host.lower()}"


Email = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=254, pattern=r"^[^@\s\x00]+@[^@\s\x00]+$"),
    AfterValidator(one_spelling),
    Field(max_length=254),
]


def in_utc(at: datetime) -> datetime:
    """SQLite drops the offset: what it gives back is UTC."""
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


OPENED, FAR = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
# TODO take-aware-datetimes: ten o'clock, but where?
Instant = datetime
Utc = datetime

# TODO bound-every-input: what is the worst that these let in?
Name = Annotated[str, Field(min_length=1, max_length=80)]
Phone = Annotated[str, Field(pattern=r"^\+\d{7,15}$")]
Voucher = Annotated[str, Field(pattern=r"^[A-Z0-9]{4,12}$")]


class Gift(Input):
    to: Name
    text: Name


class NewLine(Input):
    sku: Annotated[str, Field(pattern=r"^[A-Z]{3}-[0-9]{4}$")]
    quantity: Annotated[int, Field(gt=0)]


class NewOrder(Input):
    deliver_at: Instant
    lines: list[NewLine] = Field(default_factory=list)
    vouchers: list[Voucher] = []
    gift: Json[Gift] | None = None


# TODO separate-input-from-output: which of these fields are the shop's, and which bounds are old?
class NewCustomer(Input):
    email: Email
    name: Name
    phone: Phone | None = None
    balance: int = 0


class CustomerOut(NewCustomer):
    id: int


class CustomerPatch(Input):
    # TODO tell-unset-from-null: what may a client send, and what does it mean?
    name: Name | None = None
    phone: Phone | None = None


class LineOut(BaseModel):
    sku: str
    quantity: int
    price: int


class OrderOut(BaseModel):
    id: int
    deliver_at: Utc
    vouchers: list[str]
    gift: dict[str, str] | None
    lines: list[LineOut]

    # TODO compute-derived-fields: which parts of a class go into a reply?
    @property
    def total(self) -> int:
        return sum(line.quantity * line.price for line in self.lines)


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session
        await session.commit()


SessionDep = Annotated[AsyncSession, Depends(open_session, scope="function")]


CustomerId = Annotated[int, Path(ge=1, lt=2**31)]


async def get_customer(session: AsyncSession, customer_id: int) -> Customer:
    customer = await session.get(Customer, customer_id)
    if customer is None:
        raise HTTPException(404, "There is no such customer")
    return customer


def create_app(engine: AsyncEngine) -> FastAPI:
    app = FastAPI()
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)

    @app.post("/customers", status_code=201, response_model=CustomerOut)
    async def register(new: NewCustomer, session: SessionDep) -> Customer:
        customer = Customer(**new.model_dump())
        session.add(customer)
        try:
            await session.flush()
        except IntegrityError:
            raise HTTPException(409, "This e-mail is taken") from None
        return customer

    @app.get("/customers", response_model=CustomerOut)
    async def find_customer(email: Email, session: SessionDep) -> Customer:
        customer = await session.scalar(select(Customer).where(Customer.email == email))
        if customer is None:
            raise HTTPException(404, "There is no such customer")
        return customer

    @app.patch("/customers/{customer_id}", response_model=CustomerOut)
    async def change_customer(
        customer_id: CustomerId, patch: CustomerPatch, session: SessionDep
    ) -> Customer:
        customer = await get_customer(session, customer_id)
        changes = patch.model_dump(exclude_unset=True)
        for field, value in changes.items():
            setattr(customer, field, value)
        return customer

    @app.post("/customers/{customer_id}/orders", status_code=201, response_model=OrderOut)
    async def place_order(customer_id: CustomerId, new: NewOrder, session: SessionDep) -> Order:
        customer = await get_customer(session, customer_id)
        if unknown := {line.sku for line in new.lines} - PRICES.keys():
            raise HTTPException(404, f"There is no {', '.join(sorted(unknown))}")
        new.vouchers.append("THANKS")
        order = Order(
            customer_id=customer.id,
            deliver_at=new.deliver_at,
            vouchers=new.vouchers,
            gift=new.model_dump()["gift"],
            lines=[
                Line(sku=line.sku, quantity=line.quantity, price=PRICES[line.sku])
                for line in new.lines
            ],
        )
        session.add(order)
        await session.flush()
        return order

    @app.get("/customers/{customer_id}/orders", response_model=list[OrderOut])
    async def list_orders(customer_id: CustomerId, session: SessionDep) -> list[Order]:
        find = select(Order).options(selectinload(Order.lines)).order_by(Order.id)
        return list(await session.scalars(find.where(Order.customer_id == customer_id)))

    return app
