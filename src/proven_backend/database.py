"""The database of one check: an engine for the app under grade, and an observer of its own."""

import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import (
    Executable,
    NullPool,
    QueuePool,
    Select,
    create_engine,
    event,
    inspect,
    select,
)
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.util import await_only

from proven_backend import postgresql
from proven_backend.story import Story, brief, one_line

READ = re.compile(r"\s*(SELECT|WITH)\b", re.I)
WRITE = re.compile(
    r"\s*(INSERT|UPDATE|DELETE|REPLACE|WITH\b.*\b(INSERT|UPDATE|DELETE))\b", re.S | re.I
)
POOL = {"pool_size": 2, "max_overflow": 0, "pool_timeout": 1}


class Observer:
    """Sees what is committed, through connections of its own; the fixture ``db``.

    `engine` is the one under grade: a pool of two connections without overflow, 1 s to wait for a
    connection, on SQLite 1 s to wait for a lock.
    """

    def __init__(self, engine: AsyncEngine, own: AsyncEngine, story: Story) -> None:
        self.engine = engine
        self._own = own
        self.story = story
        self.order = story.order
        self.statements = story.statements
        story.watch(engine)

    async def add(self, *rows: object) -> None:
        """Stores objects of the app's classes, committed; their attributes stay readable."""
        async with AsyncSession(self._own, expire_on_commit=False) as session, session.begin():
            session.add_all(rows)

    async def rows(self, what: Any) -> list[Any]:
        """The committed objects of a class by primary key, or the rows of a statement."""
        statement = what
        if isinstance(what, type):
            statement = select(what).order_by(*inspect(what).primary_key)
        async with AsyncSession(self._own) as session:
            result = await session.execute(statement)
            one_column = isinstance(statement, Select) and len(statement.column_descriptions) == 1
            return list(result.scalars().unique() if one_column else result)

    async def scalar(self, statement: Executable) -> Any:
        """The first column of the first row, as committed; None where there is no row."""
        async with AsyncSession(self._own) as session:
            return await session.scalar(statement)

    async def count(self, what: Any) -> int:
        """How many rows of a class, or of a statement, are committed."""
        return len(await self.rows(what))

    async def execute(self, statement: Executable) -> None:
        """Another connection's change, committed."""
        async with self._own.begin() as connection:
            await connection.execute(statement)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A session on the engine under grade, rolled back at the end unless committed.

        An SQLAlchemyError inside becomes an AssertionError with a sentence.
        """
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            try:
                yield session
            except SQLAlchemyError as error:
                raise AssertionError(f"the database refused: {one_line(error)}") from error

    @contextmanager
    def commits_fail(self) -> Iterator[None]:
        """Every COMMIT of the engine under grade raises OperationalError inside the block."""

        def fail(_connection: object) -> None:
            raise OperationalError("COMMIT", None, Exception("the database did not store this"))

        event.listen(self.engine.sync_engine, "commit", fail)
        yield
        event.remove(self.engine.sync_engine, "commit", fail)

    @asynccontextmanager
    async def rival(self, statement: Executable, after_read: bool = False) -> AsyncIterator[None]:
        """Right before the app's first write in the block, another connection commits `statement`.

        With `after_read` right after its first SELECT. It waits for no lock: where the app holds
        one, or does not come to that point, it commits at the end of the block.
        """
        moment = "after_cursor_execute" if after_read else "before_cursor_execute"
        wanted = READ if after_read else WRITE
        waiting, late = [statement], list[Executable]()

        def meet(_conn: Any, _cursor: Any, sql: str, *_: Any) -> None:
            if not waiting or not wanted.match(sql):
                return
            change = waiting.pop()
            try:
                await_only(self._at_once(change))
            except SQLAlchemyError:
                late.append(change)
            else:
                self.story.tell_rival(brief(str(change)), before_last=not after_read)

        event.listen(self.engine.sync_engine, moment, meet)
        yield
        event.remove(self.engine.sync_engine, moment, meet)
        for change in waiting + late:
            await self.execute(change)

    async def _at_once(self, statement: Executable) -> None:
        impatient = create_async_engine(
            self._own.url,
            poolclass=NullPool,
            connect_args={"timeout": 0}
            if self._own.dialect.name == "sqlite"
            else {"server_settings": {"lock_timeout": "10ms"}},
        )
        async with impatient.begin() as connection:
            await connection.execute(statement)

    def checked_out(self) -> int:
        """How many connections of the engine under grade are in use."""
        assert isinstance(self.engine.pool, QueuePool)
        return self.engine.pool.checkedout()


@asynccontextmanager
async def sqlite(app: ModuleType, folder: Path, story: Story) -> AsyncIterator[Observer]:
    """An observer of a database file in `folder`, copied from a template of the app's tables."""
    template, file = folder / "template.db", folder / "shop.db"
    if not template.exists():
        engine = create_engine(f"sqlite:///{template}")
        app.Base.metadata.create_all(engine)
        engine.dispose()
    for old in (file, Path(f"{file}-journal"), Path(f"{file}-wal"), Path(f"{file}-shm")):
        old.unlink(missing_ok=True)
    shutil.copyfile(template, file)
    url = f"sqlite+aiosqlite:///{file}"
    async with _observer(url, {"timeout": 1}, story) as observer:
        event.listen(observer._own.sync_engine, "connect", _foreign_keys)
        yield observer


def _foreign_keys(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA foreign_keys=ON")


@asynccontextmanager
async def on_postgresql(app: ModuleType, server: str, story: Story) -> AsyncIterator[Observer]:
    """An observer of a new PostgreSQL database with the app's tables."""

    url = await postgresql.create_database(server)
    try:
        async with _observer(url, {}, story) as observer:
            async with observer._own.begin() as connection:
                await connection.run_sync(app.Base.metadata.create_all)
            yield observer
    finally:
        await postgresql.drop_database(url)


@asynccontextmanager
async def _observer(url: str, arguments: dict[str, Any], story: Story) -> AsyncIterator[Observer]:
    engine = create_async_engine(url, connect_args=arguments, **POOL)
    own = create_async_engine(url, connect_args=arguments)
    try:
        yield Observer(engine, own, story)
    finally:
        await engine.dispose()
        await own.dispose()
