"""How alembic reaches the shop's database."""

import asyncio
import os
from logging.config import fileConfig

from alembic import context
from app.database import open_engine
from app.models import Base
from sqlalchemy import Connection


def run_migrations(connection: Connection) -> None:
    """Runs the migrations that alembic was asked for."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_server_default=True,
        autogenerate_plugins=["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname"],
        render_as_batch=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def migrate(connection: Connection) -> None:
    """Runs them on any database."""
    # TODO batch-on-sqlite: what does SQLite delete with a table that a batch replaces?
    run_migrations(connection)


async def migrate_from_outside() -> None:
    """Runs the migrations on a connection of their own, as the command line does."""
    engine = open_engine(os.environ["DATABASE_URL"])
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


# TODO run-inside-the-app: who called this file, with which loop, connection and loggers?
if context.config.config_file_name is not None:
    fileConfig(context.config.config_file_name)
asyncio.run(migrate_from_outside())
