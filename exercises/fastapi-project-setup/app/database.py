"""The tables of a shop, and the engine that reads them."""

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from .settings import Settings


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"
    sku: Mapped[str] = mapped_column(primary_key=True)
    left: Mapped[int]


def create_engine(settings: Settings) -> AsyncEngine:
    """An engine for the database of these settings; it connects when it is first used."""
    url = settings.url()
    # TODO size-the-pool-for-the-database: which databases have a pool, and how far may it grow?
    return create_async_engine(url, pool_size=settings.connections, max_overflow=10)
