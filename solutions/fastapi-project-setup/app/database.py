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
    in_memory = url.get_backend_name() == "sqlite" and url.database in {None, "", ":memory:"}
    limits = {} if in_memory else {"pool_size": settings.connections, "max_overflow": 0}
    return create_async_engine(
        url,
        **limits,
        pool_pre_ping=True,
        hide_parameters=True,
    )
