"""A shop with some tea and rice, on a database file of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from app import Base, Product, create_app
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[AsyncClient]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/shop.db")
    app = create_app(engine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session, session.begin():
        session.add(Product(sku="tea", price=450, in_stock=10))
        session.add(Product(sku="rice", price=320, in_stock=1))
    async with (
        app.router.lifespan_context(app),
        AsyncClient(transport=ASGITransport(app), base_url="http://shop") as client,
    ):
        yield client
    await engine.dispose()
