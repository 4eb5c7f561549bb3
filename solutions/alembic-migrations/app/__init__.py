"""The shop's migrations: mend them before they meet a database that holds something.

The shop has run for a year. Its tables changed five times, and each change is a migration in
`migrations/versions`. On the developer's empty database all of them ran. The first run on a copy of
the real one lost names and order lines, stopped half-way, and the service that migrates itself did
not start, or started without its log.

The models are right: leave them. So is what each migration is for:
`0001`  customers with a `fullname`, their orders, and the lines of those
`0002`  the column `customers.fullname` is called `customers.name`
`0003`  an order keeps where it goes, in `orders.ship_to`: its customer's address of that day
`0004`  an order may have a discount, never more than its total
`0005`  shipments

Keep these ids, and what the migrations are for; others may follow. A downgrade brings back the
schema of its revision; rows stay, and so do tables that no migration made. `alembic` starts in this
folder:

On the command line `DATABASE_URL` names the database, and `alembic` tells on stderr what it runs,
as `alembic.ini` says. `alembic check` is the build's last word: it is to report every table, column
(its type and default, too) and CHECK in which database and models differ, on whichever side.

In `create_app(engine, ini=...)` the app's start brings the database of `engine`, new or a year old,
to the newest revision, with the configuration file `ini`; an app that cannot do that does not
start. It hands its connection to `env.py` in `config.attributes["connection"]` and goes on with it,
foreign keys on. DATABASE_URL may be missing there; what it names stays as it is. All this on SQLite
and on PostgreSQL.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from alembic import command
from alembic.config import Config
from fastapi import FastAPI, HTTPException
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from .database import keep_foreign_keys
from .models import Base, Order

__all__ = ["Base", "create_app"]
logger = logging.getLogger(__name__)


def create_app(engine: AsyncEngine, *, ini: str = "alembic.ini") -> FastAPI:
    """The shop on `engine`, whose database it brings to head when it starts."""
    keep_foreign_keys(engine)
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    def upgrade(connection: Connection) -> None:
        config = Config(ini)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with engine.connect() as connection:
            await connection.run_sync(upgrade)
        yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/customers/{customer_id}/orders", status_code=201)
    async def place_order(customer_id: int, ship_to: str) -> int:
        order = Order(customer_id=customer_id, total=5, ship_to=ship_to)
        try:
            async with sessions.begin() as session:
                session.add(order)
        except IntegrityError:
            raise HTTPException(404, "no such customer") from None
        logger.info("order %s placed", order.id)
        return order.id

    return app
