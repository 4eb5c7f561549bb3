"""The shop's orders over HTTP, for its phone app.

POST   /api/orders        places an order: 201, the order, and where it is from now on
GET    /api/orders        the orders by id, 20 on a page unless `page` and `size` say otherwise
GET    /api/orders/{id}   one order
DELETE /api/orders/{id}   cancels it: 204; a shipped order is not cancelled: 409

An order is told as `id`, `sku`, `status` and `price` in euros ("12.50"). Its `card` is the token
that charges the customer: it stays in the shop. A sold-out product is a 409, an unknown product or
order a 404. `page` goes from 1 to 10,000 or more, `size` from 1 to 100, else 422. Ids are INTEGER
columns, on SQLite and on PostgreSQL: an order may have any id up to MAX_ID, and no greater one is
looked for in the database.

The phone app's client is generated from /openapi.json: its methods are named after `operationId`
(`place_order`, `list_orders`, `show_order`, `cancel_order`, whatever the paths are), and it reads
each status, media type and field of a body, and each bound of a number, that stands there.

The nightly job has no HTTP: it calls `cancel(session, order_id)`, expects a ShopError for a shipped
or unknown order, and commits or rolls back itself.

There already: tables, models, and the handler that answers each ShopError as problem+json.
"""

from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

PROBLEM_JSON = "application/problem+json"
MAX_ID = 2**31 - 1


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"
    sku: Mapped[str] = mapped_column(primary_key=True)
    cents: Mapped[int]
    left: Mapped[int]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str]
    price: Mapped[int]
    card: Mapped[str]
    status: Mapped[str] = mapped_column(default="new")


class ShopError(Exception):
    status, title = 400, "The shop cannot do that"


class NotFoundError(ShopError):
    status, title = 404, "There is no such thing"


class SoldOutError(ShopError):
    status, title = 409, "The product is sold out"


class ShippedError(ShopError):
    status, title = 409, "The order is on its way"


class NewOrder(BaseModel):
    sku: str
    card: str


def in_euros(cents: Any) -> Decimal:
    return Decimal(cents).scaleb(-2)


class OrderOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    sku: str
    status: str
    price: Annotated[Decimal, BeforeValidator(in_euros)]


class Problem(BaseModel):
    title: str
    status: int


def fails(*errors: type[ShopError]) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI tells of the errors that a route answers."""
    # TODO document-what-can-fail: what does a generated client know of the body?
    return {error.status: {"description": error.title} for error in errors}


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session
        await session.commit()


SessionDep = Annotated[AsyncSession, Depends(open_session, scope="function")]
# TODO bound-ids-and-limits: which numbers does the database not take?
OrderId = Annotated[int, Path(ge=1)]
PageNumber = Annotated[int, Query(ge=1)]
PageSize = Annotated[int, Query(le=100)]

router = APIRouter(prefix="/orders", tags=["orders"])


async def find_orders(session: AsyncSession, page: int, size: int) -> Sequence[Order]:
    found = await session.scalars(
        select(Order).order_by(Order.id).offset((page - 1) * size).limit(size)
    )
    return found.all()


async def find_order(session: AsyncSession, order_id: int) -> Order:
    order = await session.get(Order, order_id)
    if order is None:
        raise NotFoundError(f"order {order_id}")
    return order


async def place(session: AsyncSession, new: NewOrder) -> Order:
    product = await session.get(Product, new.sku)
    if product is None:
        raise NotFoundError(f"product {new.sku}")
    change = update(Product).where(Product.sku == new.sku, Product.left > 0)
    left = await session.scalar(change.values(left=Product.left - 1).returning(Product.left))
    if left is None:
        raise SoldOutError(f"product {new.sku}")
    order = Order(sku=new.sku, price=product.cents, card=new.card)
    session.add(order)
    await session.flush()
    return order


@router.get("", response_model=list[OrderOut])
async def list_orders(session: SessionDep, page: PageNumber = 1, size: PageSize = 20) -> Any:
    # TODO convert-once: how often is a price turned into euros?
    orders = await find_orders(session, page, size)
    return [OrderOut.model_validate(order).model_dump() for order in orders]


@router.post(
    # TODO keep-one-url: what does POST /api/orders answer?
    "/",
    response_model=OrderOut,
    responses=fails(NotFoundError, SoldOutError),
    # TODO answer-with-the-right-status: what did this do, and where is it?
    status_code=200,
)
async def place_order(
    new: NewOrder, session: SessionDep, request: Request, response: Response
) -> Order:
    order = await place(session, new)
    return order


# TODO declare-the-response: which columns does a client see?
@router.get("/{order_id}", response_model=None, responses=fails(NotFoundError))
async def show_order(order_id: OrderId, session: SessionDep) -> Order:
    return await find_order(session, order_id)


async def cancel(session: AsyncSession, order_id: int) -> None:
    # TODO keep-routes-thin: who keeps this from the nightly job?
    order = await find_order(session, order_id)
    order.status = "cancelled"


@router.delete("/{order_id}", status_code=204, responses=fails(NotFoundError, ShippedError))
async def cancel_order(order_id: OrderId, session: SessionDep) -> None:
    order = await find_order(session, order_id)
    if order.status == "shipped":
        raise ShippedError(f"order {order_id}")
    await cancel(session, order_id)


def create_app(engine: AsyncEngine) -> FastAPI:
    app = FastAPI(generate_unique_id_function=lambda route: route.name)
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    app.include_router(router, prefix="/api")

    @app.exception_handler(ShopError)
    async def answer_shop_error(request: Request, exc: ShopError) -> JSONResponse:
        body = {"title": exc.title, "status": exc.status}
        return JSONResponse(body, exc.status, media_type=PROBLEM_JSON)

    return app
