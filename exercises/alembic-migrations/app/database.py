"""The shop's database."""

from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine


def open_engine(url: str) -> AsyncEngine:
    """An engine that keeps foreign keys on SQLite too."""
    return keep_foreign_keys(create_async_engine(url))


def keep_foreign_keys(engine: AsyncEngine) -> AsyncEngine:
    """Turns foreign keys on, on SQLite, for every new connection of an engine."""
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine.sync_engine, "connect")
        def foreign_keys_on(connection: Any, record: object) -> None:
            connection.execute("PRAGMA foreign_keys=ON")

    return engine
