"""The order desk, and what it answers when something goes wrong.

Customers order and cancel, the warehouse prints labels. The web shop at https://shop.example shows
the replies to people. The mobile app branches on them as RFC 9457 says: `type` is a URI for each
kind of error (about:blank where the status says all), `title` is for people, and `status` repeats
the status. Whoever is on call looks for the id that a customer read in a 500, in its body or in a
header, and finds the one log entry with the stack.

There already: tables, routes and the shop's errors. An AppError knows the status, the kind and the
title that a client may read; its text is a note for the log and may name what no client should
see. `problem` builds every error reply.

Seam of create_app: `print_label(order_id)` reads a label from the folder that the carrier fills.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Annotated
from uuid import uuid4

from fastapi import Depends, FastAPI, Header, HTTPException, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from pydantic import BaseModel, SecretStr, field_validator
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.base import RequestResponseEndpoint

logger = logging.getLogger(__name__)


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"
    sku: Mapped[str] = mapped_column(primary_key=True)
    left: Mapped[int]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str]
    email: Mapped[str]
    payment: Mapped[str]
    cancelled: Mapped[bool] = mapped_column(default=False)


class AppError(Exception):
    status, kind, title = 400, "refused", "The shop cannot do that"


class NotFoundError(AppError):
    status, kind, title = 404, "not-found", "There is no such thing"


class ProductNotFoundError(NotFoundError):
    kind, title = "unknown-product", "There is no such product"


class OutOfStockError(AppError):
    status, kind, title = 409, "out-of-stock", "The product is sold out"


class OrderClosedError(AppError):
    status, kind, title = 409, "order-closed", "The order is cancelled already"


class NotAllowedError(AppError):
    status, kind, title = 403, "not-allowed", "Another desk does this"


class NewOrder(BaseModel):
    sku: str
    email: str
    card: SecretStr

    @field_validator("card")
    @classmethod
    def digits_only(cls, card: SecretStr) -> SecretStr:
        if not card.get_secret_value().isdecimal():
            raise ValueError("a card number has digits only")
        return card


class OrderOut(BaseModel):
    id: int


def problem(
    status: int,
    title: str | None = None,
    kind: str | None = None,
    headers: Mapping[str, str] | None = None,
    **more: object,
) -> JSONResponse:
    """The answer to an error: its status, a title to read and the kind to branch on."""
    body = {
        "type": f"https://shop.example/problems/{kind}" if kind else "about:blank",
        "title": title or HTTPStatus(status).phrase,
        "status": status,
    }
    return JSONResponse(body | more, status, headers, media_type="application/problem+json")


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session
        await session.commit()


SessionDep = Annotated[AsyncSession, Depends(open_session, scope="function")]
OrderId = Annotated[int, Path(ge=1, lt=2**31)]


async def known_desk(x_desk: Annotated[str | None, Header()] = None) -> str:
    if x_desk is None:
        raise HTTPException(401, "Say which desk asks", {"WWW-Authenticate": "Desk"})
    return x_desk


DeskDep = Annotated[str, Depends(known_desk)]


async def authorize(card: str) -> str:
    """Asks the bank; the reference of the payment."""
    return f"payment-{uuid4()}"


async def plain_label(order_id: int) -> str:
    return f"order {order_id}"


async def find_order(session: AsyncSession, order_id: int) -> Order:
    order = await session.get(Order, order_id)
    if order is None:
        raise NotFoundError(f"order {order_id}")
    return order


async def take_one(session: AsyncSession, sku: str) -> int | None:
    """How many are left after taking one; None where there was none."""
    change = update(Product).where(Product.sku == sku, Product.left > 0)
    return await session.scalar(change.values(left=Product.left - 1).returning(Product.left))


def check_desk(desk: str) -> None:
    if desk != "warehouse":
        raise NotAllowedError(f"desk {desk}")


def add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(AppError)
    async def answer_app_error(request: Request, exc: AppError) -> JSONResponse:
        logger.info("%s: %s", exc.kind, exc)
        return problem(exc.status, exc.title, exc.kind)

    @app.exception_handler(StarletteHTTPException)
    async def answer_http_error(request: Request, exc: StarletteHTTPException) -> JSONResponse:
        return problem(exc.status_code, detail=exc.detail, headers=exc.headers)

    @app.exception_handler(RequestValidationError)
    async def answer_invalid(request: Request, exc: RequestValidationError) -> JSONResponse:
        errors = [{"loc": error["loc"], "msg": error["msg"]} for error in exc.errors()]
        return problem(422, "The request is not valid", "invalid", errors=errors)

    @app.middleware("http")
    async def hide_unexpected(request: Request, call_next: RequestResponseEndpoint) -> Response:
        try:
            return await call_next(request)
        except Exception:
            request_id = str(uuid4())
            logger.exception("unexpected error in request %s", request_id)
            return problem(500, request_id=request_id)

    app.add_middleware(CORSMiddleware, allow_origins=["https://shop.example"])


def create_app(
    engine: AsyncEngine, *, print_label: Callable[[int], Awaitable[str]] = plain_label
) -> FastAPI:
    app = FastAPI()
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    add_error_handlers(app)

    @app.post("/orders", status_code=201, response_model=OrderOut)
    async def place_order(new: NewOrder, session: SessionDep) -> Order | Response:
        if await session.get(Product, new.sku) is None:
            raise ProductNotFoundError(new.sku)
        payment = await authorize(new.card.get_secret_value())
        order = Order(sku=new.sku, email=new.email, payment=payment)
        session.add(order)
        await session.flush()
        if await take_one(session, new.sku) is None:
            raise OutOfStockError(f"{new.sku}, wanted by {new.email}")
        return order

    @app.post("/orders/{order_id}/cancel", status_code=204)
    async def cancel_order(order_id: OrderId, session: SessionDep) -> None:
        order = await find_order(session, order_id)
        if order.cancelled:
            raise OrderClosedError(f"order {order.id}, {order.payment}")
        order.cancelled = True

    @app.get("/orders/{order_id}/label")
    async def show_label(order_id: OrderId, desk: DeskDep, session: SessionDep) -> dict[str, str]:
        check_desk(desk)
        order = await find_order(session, order_id)
        return {"label": await print_label(order.id)}

    return app
