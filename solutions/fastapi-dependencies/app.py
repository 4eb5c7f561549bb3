"""The shop's counter: mend how its routes get what they need.

Customers order at the counter and pack their parcels themselves, the office restocks, partners ask
on which day a parcel leaves. The routes and their answers are right. What is wrong is how they get
their sessions, customers, services and desks. Mend that, and keep the paths and the status codes.

Whoever orders, looks up old orders or works in the office is a customer, who says so in the header
X-Customer, which OpenAPI shows. 401: no customer, or an unknown one; 403: a blocked customer, also
a blocked admin, and in the office whoever is no admin. Of an order a client sets only the sku.

Tests replace two functions through `dependency_overrides`: `today`, and `shop_service`, whose
replacement gives an object with the methods of ShopService. `pretend(service, day)` is what the
test suite and the demo use: that one app believes that it is `day`, whatever a client sends, until
it is called again. Other overrides stay.

`create_app(engine, ...)` takes the world outside as keywords:
`desks`            the packing desks, numbered from 0: `take()`, `light(desk)`, `give_back(desk)`;
                   where the light fails, nothing is packed, and the client is told 500
`wrap(order_id)`   packs an order at the desk that is taken, may take long
`journal(error)`   is told each exception that ended a POST /orders/{sku}, also one behind a 401 or
                   403, and one of the COMMIT
`quote(sku)`       asks the carrier for its price; it blocks its thread until he answers
`old_orders(name)` reads the database of the old shop; its driver is synchronous, so it blocks too
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Security
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader
from sqlalchemy import ForeignKey, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    active: Mapped[bool] = mapped_column(default=True)
    admin: Mapped[bool] = mapped_column(default=False)
    points: Mapped[int] = mapped_column(default=0)


class Stock(Base):
    __tablename__ = "stock"
    sku: Mapped[str] = mapped_column(primary_key=True)
    left: Mapped[int]
    restocked_by: Mapped[str | None]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    sku: Mapped[str]
    day: Mapped[date]


class ShopError(Exception):
    """The shop cannot do that."""

    status = 404


class SoldOutError(ShopError):
    status = 409


@dataclass
class ShopService:
    """What the shop does, in the session of one request."""

    session: AsyncSession
    day: date
    points: int = 1

    async def place(self, customer: Customer, sku: str) -> int:
        """Orders one piece for a customer, who earns points; the order's id."""
        stock = await self._lock(sku)
        if stock.left < 1:
            raise SoldOutError("sold out")
        stock.left -= 1
        customer.points += self.points
        order = Order(customer_id=customer.id, sku=sku, day=self.day)
        self.session.add(order)
        await self.session.flush()
        return order.id

    async def restock(self, admin: Customer, sku: str) -> int:
        """Puts one more piece on the shelf; how many are there now."""
        stock = await self._lock(sku)
        stock.left, stock.restocked_by = stock.left + 1, admin.name
        return stock.left

    async def left(self, sku: str) -> int:
        """How many pieces of a product are left."""
        return await self.session.scalar(select(Stock.left).where(Stock.sku == sku)) or 0

    async def _lock(self, sku: str) -> Stock:
        stock = await self.session.get(Stock, sku, with_for_update=True)
        if stock is None:
            raise ShopError("no such product")
        return stock


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session
        await session.commit()


async def today() -> date:
    return datetime.now(UTC).date()


SessionDep = Annotated[AsyncSession, Depends(open_session, scope="function")]
TodayDep = Annotated[date, Depends(today)]
NameDep = Annotated[str, Security(APIKeyHeader(name="X-Customer"))]


async def current_customer(name: NameDep, session: SessionDep) -> Customer:
    customer = await session.scalar(select(Customer).where(Customer.name == name))
    if customer is None:
        raise HTTPException(401, "no such customer")
    return customer


async def active_customer(customer: Annotated[Customer, Depends(current_customer)]) -> Customer:
    if not customer.active:
        raise HTTPException(403, "this customer is blocked")
    return customer


CustomerDep = Annotated[Customer, Depends(active_customer)]


async def require_admin(customer: CustomerDep) -> None:
    if not customer.admin:
        raise HTTPException(403, "the office only")


async def shop_service(session: SessionDep, day: TodayDep) -> ShopService:
    return ShopService(session, day)


ShopDep = Annotated[ShopService, Depends(shop_service)]


class Desks:
    """Packing desks: one that everybody shares."""

    async def take(self) -> int:
        return 1

    async def light(self, desk: int) -> None: ...

    async def give_back(self, desk: int) -> None: ...


ONE_DESK = Desks()


async def wrap_at_once(order_id: int) -> None:
    """Wraps without waiting."""


def no_journal(error: Exception) -> None:
    """Keeps nothing."""


def flat_price(sku: str) -> int:
    """Every parcel costs the same."""
    return 5


def none_known(name: str) -> list[str]:
    """The old shop knew nobody."""
    return []


def create_app(
    engine: AsyncEngine,
    *,
    desks: Desks = ONE_DESK,
    wrap: Callable[[int], Awaitable[None]] = wrap_at_once,
    journal: Callable[[Exception], None] = no_journal,
    quote: Callable[[str], int] = flat_price,
    old_orders: Callable[[str], list[str]] = none_known,
) -> FastAPI:
    """The shop's counter on `engine`, with the world outside in the keywords."""
    app = FastAPI()
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    office = APIRouter(prefix="/office", dependencies=[Depends(require_admin)])

    async def keep_journal() -> AsyncIterator[None]:
        try:
            yield
        except Exception as error:
            journal(error)
            raise

    @app.exception_handler(ShopError)
    async def answer_shop_error(request: Request, error: ShopError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, error.status)

    @app.post("/orders/{sku}", status_code=201, dependencies=[Depends(keep_journal)])
    async def place_order(sku: str, customer: CustomerDep, shop: ShopDep) -> int:
        return await shop.place(customer, sku)

    async def take_desk() -> AsyncIterator[int]:
        desk = await desks.take()
        try:
            await desks.light(desk)
            yield desk
        finally:
            await desks.give_back(desk)

    @app.post("/orders/{order_id}/parcel")
    async def pack(order_id: int, desk: Annotated[int, Depends(take_desk)]) -> str:
        await wrap(order_id)
        return f"packed at desk {desk}"

    def carrier_price(sku: str) -> int:
        return quote(sku)

    @app.get("/shipping/{sku}")
    async def show_shipping(price: Annotated[int, Depends(carrier_price)]) -> int:
        return price

    @app.get("/me/old-orders")
    def show_old_orders(customer: CustomerDep) -> list[str]:
        return old_orders(customer.name)

    @office.get("/stock/{sku}")
    async def look(sku: str, shop: ShopDep) -> int:
        return await shop.left(sku)

    @office.post("/stock/{sku}")
    async def restock(sku: str, customer: CustomerDep, shop: ShopDep) -> int:
        return await shop.restock(customer, sku)

    app.include_router(office)

    partners = APIRouter()

    @partners.get("/next-parcel")
    async def next_parcel(day: TodayDep) -> date:
        return day

    app.include_router(partners, prefix="/partners")
    return app


def pretend(service: FastAPI, day: date) -> None:
    """Lets the app `service` believe that it is `day`."""
    service.dependency_overrides[today] = lambda: day
