"""The checks of layered-backend: what holds for a service as a whole."""

import asyncio
import re
import sys
from contextlib import contextmanager

import grimp
import pytest
from importlinter import configuration
from importlinter.application.use_cases import lint_imports
from sqlalchemy import Engine, event, func, select
from sqlalchemy.pool import Pool
from sqlalchemy.util import await_only

configuration.configure()

CARD = "4000123412341234"
ORDER = {"customer": "ann@home.example", "lines": [{"sku": "tea", "count": 2}]}
FORBIDDEN = (
    "app.routes.** -> app.repositories.**",
    "app.routes.** -> sqlalchemy",
    "app.schemas.** -> sqlalchemy",
    "app.services.** -> fastapi",
    "app.repositories.** -> fastapi",
)
PLANTED = {
    "a route imports a repository": ("routes", "from ..repositories import orders\n"),
    "a route imports SQLAlchemy": ("routes", "from sqlalchemy import select\n"),
    "a service imports FastAPI": ("services", "from fastapi import HTTPException\n"),
    "a repository imports a service": ("repositories", "from ..services import orders\n"),
}


@contextmanager
def failing_at(engine, number):
    """The statement of this number, or else the COMMIT, fails inside the block; tells which."""
    sent, failed = [], []

    def fail(_conn, _cursor, sql, parameters, _context, _many):
        sent.append(sql)
        if len(sent) == number:
            failed.append(sql.split()[0])
            return "SELECT nothing FROM nowhere", ()
        return sql, parameters

    event.listen(engine.sync_engine, "before_cursor_execute", fail, retval=True)
    yield failed
    event.remove(engine.sync_engine, "before_cursor_execute", fail)


@contextmanager
def connections():
    """The connections that engines open inside the block, as long as they are open."""
    open_now = []

    def opened(*_call):
        open_now.append("connection")

    def closed(*_call):
        open_now.pop()

    event.listen(Engine, "do_connect", opened)
    event.listen(Pool, "close", closed)
    yield open_now
    event.remove(Engine, "do_connect", opened)
    event.remove(Pool, "close", closed)
