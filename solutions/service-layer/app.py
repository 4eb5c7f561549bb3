"""The counter and the back room of a shop.

The routes below turn HTTP into calls of service.py and answers into HTTP; a nightly import and a
support command call the same services without HTTP, in sessions and transactions of their own.
All of that works while one customer at a time is served and nothing is refused. Mend service.py:
its callers must be able to tell refusals apart, undo what they began, and go on after a refusal.

There already: models.py with the tables (`email` and `card` are unique), the routes and the answers
to the shop's errors in this file, one session a request that is committed before the reply.
The shop runs on SQLite and on PostgreSQL, with the drivers aiosqlite and asyncpg.
Seam: `create_app(engine, *, hasher)`, the slow function that turns a password into what is stored.
"""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Path, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from . import service
from .models import Base

__all__ = ["Base", "create_app"]

STATUS = {service.NotFoundError: 404, service.SoldOutError: 409, service.TakenError: 409}

Id = Annotated[int, Path(ge=1, lt=2**31)]
Text = Annotated[str, Field(min_length=1, max_length=200)]


class NewCustomer(BaseModel):
    email: Text
    password: Text
    card: Text | None = None


class NewEmail(BaseModel):
    email: Text


class Purchase(BaseModel):
    email: Text
    password: Text
    sku: Text


class CustomerOut(BaseModel):
    id: int
    email: str


class OrderOut(BaseModel):
    id: int
    sku: str


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session
        await session.commit()


SessionDep = Annotated[AsyncSession, Depends(open_session, scope="function")]


def customer_service(request: Request, session: SessionDep) -> service.CustomerService:
    return service.CustomerService(session, request.app.state.hasher)


def checkout_service(request: Request, session: SessionDep) -> service.CheckoutService:
    return service.CheckoutService(session, request.app.state.hasher)


Customers = Annotated[service.CustomerService, Depends(customer_service)]
Checkouts = Annotated[service.CheckoutService, Depends(checkout_service)]
router = APIRouter()


@router.get("/customers/{customer_id}")
async def read_customer(customer_id: Id, customers: Customers) -> CustomerOut:
    customer = await customers.get(customer_id)
    return CustomerOut(id=customer.id, email=customer.email)


@router.post("/customers", status_code=201)
async def register(new: NewCustomer, customers: Customers) -> CustomerOut:
    customer = await customers.register(new.email, new.password, new.card)
    return CustomerOut(id=customer.id, email=customer.email)


@router.patch("/customers/{customer_id}")
async def change_email(customer_id: Id, new: NewEmail, customers: Customers) -> CustomerOut:
    customer = await customers.change_email(customer_id, new.email)
    return CustomerOut(id=customer.id, email=customer.email)


@router.post("/checkout", status_code=201)
async def checkout(purchase: Purchase, checkouts: Checkouts) -> OrderOut:
    order = await checkouts.buy(purchase.email, purchase.password, purchase.sku)
    return OrderOut(id=order.id, sku=order.sku)


async def refuse(_request: Request, error: Exception) -> JSONResponse:
    status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
    return JSONResponse({"detail": str(error)}, status)


def begin_before_savepoint(connection: Connection, _name: str) -> None:
    """sqlite3 begins at the first write only: without a BEGIN, RELEASE would commit."""
    driver = connection.connection.driver_connection
    if driver is not None and not driver.in_transaction:
        connection.exec_driver_sql("BEGIN")


def create_app(engine: AsyncEngine, *, hasher: service.Hasher = service.hash_password) -> FastAPI:
    """The shop on an engine; `hasher` may be slow and is called with the password."""
    app = FastAPI()
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    app.state.hasher = hasher
    app.include_router(router)
    app.add_exception_handler(service.ShopError, refuse)
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "savepoint", begin_before_savepoint)
    return app
