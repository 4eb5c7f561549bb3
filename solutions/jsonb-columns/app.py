"""The shop keeps documents in its rows.

A product has details, a customer has preferences, an order may have a slot for its delivery: each
is one JSON column. The shop is developed on SQLite and sells on PostgreSQL. Its staff complain:
the reply shows their change, and the next day it is gone.

The routes are there. Mend the columns and what the routes do with them. Every route is to run on
both databases (`engine.dialect.name` is "sqlite" or "postgresql"), and one that changes keys of a
document replies with the whole document. The database compares only `details`; the other JSON
columns are to be stored in the same way, though no check asks for it.

POST /products                     store a product; refuse details of another shape with 422
POST /products/{sku}/tags/{tag}    add a tag
PUT /products/{sku}/origin         change the origin; a revision keeps the details of before
PATCH /products/{sku}              set some keys, to null too; keep what others do meanwhile
GET /products?min_weight=&tag=     the SKUs that weigh as much, and have the tag if one is given
GET /assortment                    of all products with equal details, the first SKU
POST /customers                    PUT /customers/{id}/language     PUT /customers/{id}/channels/{x}
POST /orders                       DELETE /orders/{id}/slot         GET /orders/unscheduled

`create_app(engine)` has no other seam.
"""

import json
from collections.abc import AsyncIterator
from copy import deepcopy
from datetime import date
from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, Request
from pydantic import BaseModel
from sqlalchemy import JSON, ColumnElement, exists, func, select, type_coerce, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.orm.attributes import flag_modified


class Base(DeclarativeBase):
    pass


class Origin(BaseModel):
    country: str


class Details(BaseModel):
    weight: int
    tags: list[str]
    origin: Origin
    grade: str | None = None


class DetailsPatch(BaseModel):
    weight: int = 0
    grade: str | None = None


class Slot(BaseModel):
    day: date
    hour: int


class Product(Base):
    __tablename__ = "products"

    sku: Mapped[str] = mapped_column(primary_key=True)
    details: Mapped[dict[str, Any]] = mapped_column(JSON().with_variant(JSONB(), "postgresql"))


class ProductIn(BaseModel):
    sku: str
    details: Details


class Revision(Base):
    __tablename__ = "revisions"

    id: Mapped[int] = mapped_column(primary_key=True)
    before: Mapped[dict[str, Any]] = mapped_column(JSON().with_variant(JSONB(), "postgresql"))


class Customer(Base):
    __tablename__ = "customers"

    addresses: Mapped[list[str]] = mapped_column(JSON().with_variant(JSONB(), "postgresql"))
    id: Mapped[int] = mapped_column(primary_key=True)
    preferences: Mapped[dict[str, Any]] = mapped_column(
        MutableDict.as_mutable(JSON().with_variant(JSONB(), "postgresql"))
    )

    def speak(self, language: str) -> None:
        self.preferences["language"] = language

    def switch(self, channel: str, on: bool) -> None:
        self.preferences["channels"] = {**self.preferences["channels"], channel: on}


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    slot: Mapped[dict[str, Any] | None] = mapped_column(
        JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
    )


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(request.app.state.engine, expire_on_commit=False) as session:
        yield session
        await session.commit()


SessionDep = Annotated[AsyncSession, Depends(open_session, scope="function")]


def create_app(engine: AsyncEngine) -> FastAPI:
    app = FastAPI()
    app.state.engine = engine

    @app.post("/products", status_code=201)
    async def add_product(body: ProductIn, session: SessionDep) -> Any:
        product = Product(**body.model_dump(mode="json"))
        session.add(product)
        return product.details

    @app.post("/products/{sku}/tags/{tag}", status_code=201)
    async def add_tag(sku: str, tag: str, session: SessionDep) -> Any:
        product = await session.get_one(Product, sku)
        product.details["tags"].append(tag)
        flag_modified(product, "details")
        return product.details

    @app.put("/products/{sku}/origin")
    async def change_origin(sku: str, origin: Origin, session: SessionDep) -> Any:
        product = await session.get_one(Product, sku)
        details = deepcopy(product.details)
        details["origin"].update(origin.model_dump())
        session.add(Revision(before=product.details))
        product.details = details
        return product.details

    @app.get("/products")
    async def find_products(
        session: SessionDep, min_weight: int = 0, tag: str | None = None
    ) -> list[str]:
        found = select(Product.sku).order_by(Product.sku)
        found = found.where(Product.details["weight"].as_integer() >= min_weight)
        if tag and engine.dialect.name == "postgresql":
            found = found.where(type_coerce(Product.details, JSONB).contains({"tags": [tag]}))
        elif tag:
            tags = func.json_each(Product.details, "$.tags").table_valued("value")
            found = found.where(exists(select(tags.c.value).where(tags.c.value == tag)))
        return list(await session.scalars(found))

    @app.patch("/products/{sku}")
    async def change_details(sku: str, body: DetailsPatch, session: SessionDep) -> Any:
        patch = body.model_dump(mode="json", exclude_unset=True)
        if engine.dialect.name == "postgresql":
            details: ColumnElement[Any] = type_coerce(Product.details, JSONB).concat(patch)
        else:
            keys = [(f"$.{key}", func.json(json.dumps(value))) for key, value in patch.items()]
            details = func.json_set(Product.details, *(part for pair in keys for part in pair))
        merged = update(Product).where(Product.sku == sku).values(details=details)
        return (await session.scalars(merged.returning(Product.details))).one()

    @app.get("/assortment")
    async def list_assortment(session: SessionDep) -> list[str]:
        first = func.min(Product.sku)
        return list(await session.scalars(select(first).group_by(Product.details).order_by(first)))

    @app.post("/customers", status_code=201)
    async def add_customer(addresses: list[str], session: SessionDep) -> int:
        preferences = {"language": "en", "channels": {"mail": True, "phone": True}}
        customer = Customer(addresses=addresses, preferences=preferences)
        session.add(customer)
        await session.flush()
        return customer.id

    @app.put("/customers/{number}/language")
    async def speak(number: int, language: Annotated[str, Body()], session: SessionDep) -> Any:
        customer = await session.get_one(Customer, number)
        customer.speak(language)
        return customer.preferences

    @app.put("/customers/{number}/channels/{channel}")
    async def switch(
        number: int, channel: str, on: Annotated[bool, Body()], session: SessionDep
    ) -> Any:
        customer = await session.get_one(Customer, number)
        customer.switch(channel, on)
        return customer.preferences

    @app.post("/orders", status_code=201)
    async def add_order(slot: Annotated[Slot | None, Body(embed=True)], session: SessionDep) -> int:
        order = Order(slot=slot and slot.model_dump(mode="json"))
        session.add(order)
        await session.flush()
        return order.id

    @app.delete("/orders/{number}/slot", status_code=204)
    async def free_slot(number: int, session: SessionDep) -> None:
        order = await session.get_one(Order, number)
        order.slot = None

    @app.get("/orders/unscheduled")
    async def list_unscheduled(session: SessionDep) -> list[int]:
        unscheduled = select(Order.id).where(Order.slot.is_(None)).order_by(Order.id)
        return list(await session.scalars(unscheduled))

    return app
