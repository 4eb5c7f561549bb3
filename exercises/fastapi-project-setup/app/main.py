"""The service of one shop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from fastapi.middleware.cors import CORSMiddleware
from httpx2 import AsyncBaseTransport
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from .database import Product, create_engine
from .settings import Settings
from .supplier import Price, open_supplier


async def ping(engine: AsyncEngine) -> None:
    """Raises unless the database answers."""
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))


# TODO build-with-a-factory: whose engine is this, once two shops run in one process?
engine: AsyncEngine


def create_app(
    settings: Settings | None = None, *, transport: AsyncBaseTransport | None = None
) -> FastAPI:
    """The service of one shop; it connects to nothing before its lifespan starts."""
    global engine
    settings = settings or Settings.model_validate({})
    engine = create_engine(settings)
    supplier_url = str(settings.supplier_url)

    # TODO start-and-stop-in-lifespan: which of these run when the shop starts, and when it stops?
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_supplier(supplier_url, transport) as app.state.price:
            yield

    app = FastAPI(title="Shop", lifespan=lifespan)

    @app.on_event("startup")
    async def connect() -> None:
        await ping(engine)

    @app.on_event("shutdown")
    async def disconnect() -> None:
        await engine.dispose()

    app.add_middleware(CORSMiddleware, allow_origins=settings.origins)

    @app.get("/stock/{sku}")
    async def stock(sku: str) -> int:
        async with AsyncSession(engine) as session:
            product = await session.get(Product, sku)
        if product is None:
            raise HTTPException(404)
        return product.left

    @app.get("/prices/{sku}")
    async def price(sku: str) -> int:
        ask: Price = app.state.price
        return await ask(sku)

    return app
