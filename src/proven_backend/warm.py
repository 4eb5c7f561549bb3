"""Loads what every child would load again: one small app is run, and libraries are imported."""

import ast
import importlib
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Annotated

from fastapi import Depends, FastAPI
from httpx2 import ASGITransport, AsyncClient
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class _Base(DeclarativeBase):
    pass


class _Row(_Base):
    __tablename__ = "rows"
    id: Mapped[int] = mapped_column(primary_key=True)


class _Body(BaseModel):
    id: int


def load(sources: dict[str, str]) -> None:
    """Imports the libraries that a program of the pack's own imports; the program is not run."""
    for name in {name for source in sources.values() for name in _imported(source)}:
        with suppress(ImportError):  # its own modules
            importlib.import_module(name)


def _imported(source: str) -> Iterator[str]:
    """The modules that a Python source imports absolutely, at its top; none of another file's."""
    with suppress(SyntaxError):
        for node in ast.parse(source).body:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module


async def run() -> None:
    """Serves one request that stores and reads one row in memory."""
    engine = create_async_engine("sqlite+aiosqlite://")
    app = FastAPI()

    async def open_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    @app.post("/rows")
    async def store(body: _Body, session: Annotated[AsyncSession, Depends(open_session)]) -> _Body:
        session.add(_Row(id=body.id))
        await session.commit()
        await session.execute(text("SELECT 1"))
        return body

    async with engine.begin() as connection:
        await connection.run_sync(_Base.metadata.create_all)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://shop") as client:
        await client.post("/rows", json={"id": 1})
    await engine.dispose()
