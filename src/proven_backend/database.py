"""The database of one check: an engine for the app under grade, and an observer of its own."""

import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    Engine,
    Executable,
    MetaData,
    NullPool,
    QueuePool,
    Select,
    create_engine,
    event,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import Pool
from sqlalchemy.util import await_only

from proven_backend import postgresql
from proven_backend.story import Story, brief, one_line

READ = re.compile(r"\s*(SELECT|WITH)\b", re.IGNORECASE)
WRITE = re.compile(
    r"\s*(INSERT|UPDATE|DELETE|REPLACE|WITH\b.*\b(INSERT|UPDATE|DELETE))\b",
    re.DOTALL | re.IGNORECASE,
)
POOL = {"pool_size": 2, "max_overflow": 0, "pool_timeout": 1}


T = TypeVar("T")


class Observer:
    """Sees what is committed, through connections of its own; the fixture ``db``.

    `engine` is the one under grade: a pool of two connections without overflow, 1 s to wait for a
    connection, on SQLite 1 s to wait for a lock.
    """

    def __init__(self, engine: AsyncEngine, own: AsyncEngine | Engine, story: Story) -> None:
        self.engine = engine
        self._own = own
        self.story = story
        self.url = engine.url.render_as_string(hide_password=False)
        self.order = story.order
        self.statements = story.statements
        story.watch(engine)

    async def _run(self, work: Callable[[Session], T]) -> T:
        """What `work` returns on a session of the observer's own."""
        if isinstance(self._own, Engine):  # SQLite: without a thread each look takes a third
            with Session(self._own, expire_on_commit=False) as session:
                return work(session)
        async with AsyncSession(self._own, expire_on_commit=False) as own:
            return await own.run_sync(work)

    async def add(self, *rows: object) -> None:
        """Stores objects of the app's classes, committed; their attributes stay readable."""

        def store(session: Session) -> None:
            session.add_all(rows)
            session.commit()

        await self._run(store)

    async def rows(self, what: Any) -> list[Any]:
        """The committed objects of a class by primary key, or the rows of a statement."""
        statement = what
        if isinstance(what, type):
            statement = select(what).order_by(*inspect(what).primary_key)
        one_column = isinstance(statement, Select) and len(statement.column_descriptions) == 1

        def read(session: Session) -> list[Any]:
            result = session.execute(statement)
            return list(result.scalars().unique() if one_column else result)

        return await self._run(read)

    async def scalar(self, statement: Executable) -> Any:
        """The first column of the first row, as committed; None where there is no row."""
        return await self._run(lambda session: session.scalar(statement))

    async def count(self, what: Any) -> int:
        """How many rows of a class, or of a statement, are committed."""
        return len(await self.rows(what))

    async def execute(self, statement: Executable) -> None:
        """Another connection's change, committed."""

        def change(session: Session) -> None:
            session.execute(statement)
            session.commit()

        await self._run(change)

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

        def fail(connection: Connection) -> None:
            connection.connection.rollback()  # as SQLAlchemy does where the driver's commit fails
            raise OperationalError("COMMIT", None, Exception("the database did not store this"))

        event.listen(self.engine.sync_engine, "commit", fail)
        yield
        event.remove(self.engine.sync_engine, "commit", fail)

    @contextmanager
    def each_part(self, look: Callable[[], object]) -> Iterator[None]:
        """Calls `look` in the block before each part of a reply's body leaves the app."""
        self.story.looks.append(look)
        yield
        self.story.looks.remove(look)

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
                self._at_once(change)
            except SQLAlchemyError:
                late.append(change)
            else:
                self.story.tell_rival(brief(str(change)), before_last=not after_read)

        event.listen(self.engine.sync_engine, moment, meet)
        yield
        event.remove(self.engine.sync_engine, moment, meet)
        for change in waiting + late:
            await self.execute(change)

    def _at_once(self, statement: Executable) -> None:
        """Commits a statement without waiting for a lock; called from the app's own greenlet."""
        if isinstance(self._own, Engine):
            impatient = create_engine(
                self._own.url, poolclass=NullPool, connect_args={"timeout": 0}
            )
            with impatient.begin() as connection:
                connection.execute(statement)
        else:
            await_only(self._in_ten_ms(statement))

    async def _in_ten_ms(self, statement: Executable) -> None:
        options = {"server_settings": {"lock_timeout": "10ms"}}
        impatient = create_async_engine(self._own.url, poolclass=NullPool, connect_args=options)
        async with impatient.begin() as connection:
            await connection.execute(statement)

    def checked_out(self) -> int:
        """How many connections of the engine under grade are in use."""
        assert isinstance(self.engine.pool, QueuePool)
        return self.engine.pool.checkedout()


@contextmanager
def connections() -> Iterator[list[str]]:
    """A list with an entry for each connection that any engine opens in the block and has open."""
    open_now: list[str] = []

    def opened(*_call: object) -> None:
        open_now.append("connection")

    def closed(*_call: object) -> None:
        open_now.pop()

    event.listen(Engine, "do_connect", opened)
    event.listen(Pool, "close", closed)
    try:
        yield open_now
    finally:
        event.remove(Engine, "do_connect", opened)
        event.remove(Pool, "close", closed)


class TablesError(RuntimeError):
    """The tables of the code under grade cannot be made; the text says why."""


@contextmanager
def making_tables() -> Iterator[None]:
    """Says in a sentence that the tables cannot be made."""
    try:
        yield
    except Exception as error:
        raise TablesError(f"its tables cannot be made: {one_line(error)}") from error


@asynccontextmanager
async def sqlite(tables: MetaData | None, folder: Path, story: Story) -> AsyncIterator[Observer]:
    """An observer of a database file in `folder`, copied from a template of the tables."""
    template, file = folder / "template.db", folder / ("empty.db" if tables is None else "shop.db")
    if tables is not None and not template.exists():
        begun = folder / "begun.db"
        begun.unlink(missing_ok=True)
        maker = create_engine(f"sqlite:///{begun}", poolclass=NullPool)
        with making_tables():
            tables.create_all(maker, checkfirst=False)
        begun.rename(template)
    for old in (file, Path(f"{file}-journal"), Path(f"{file}-wal"), Path(f"{file}-shm")):
        old.unlink(missing_ok=True)
    if tables is not None:
        shutil.copyfile(template, file)
    patience = {"timeout": 1}
    engine = create_async_engine(f"sqlite+aiosqlite:///{file}", connect_args=patience, **POOL)
    own = create_engine(f"sqlite:///{file}", connect_args=patience)
    event.listen(own, "connect", _foreign_keys)
    try:
        yield Observer(engine, own, story)
    finally:
        await engine.dispose()
        own.dispose()


def _foreign_keys(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA foreign_keys=ON")


_emptied: dict[str, str] = {}  # databases of this process that were made empty again, by name


@asynccontextmanager
async def on_postgresql(
    tables: MetaData | None, server: str, name: str, story: Story
) -> AsyncIterator[Observer]:
    """An observer of an empty PostgreSQL database of that name, in which the tables are made."""
    url = _emptied.pop(name, "") or await postgresql.create_database(server, name)
    engine, own = create_async_engine(url, **POOL), create_async_engine(url)
    try:
        if tables is not None:
            with making_tables():
                async with own.begin() as connection:
                    await connection.run_sync(tables.create_all, checkfirst=False)
        yield Observer(engine, own, story)
    finally:
        await engine.dispose()
        await _make_empty(own)
        await own.dispose()
        _emptied[name] = url


async def _make_empty(engine: AsyncEngine) -> None:
    """Ends what others do in a database, and drops what is in it: quicker than a new one."""
    others = select(text("pg_terminate_backend(pid, 1000)")).select_from(text("pg_stat_activity"))
    async with engine.begin() as connection:
        await connection.execute(
            others.where(text("datname = current_database() AND pid <> pg_backend_pid()"))
        )
        await connection.execute(text("DROP SCHEMA public CASCADE"))
        await connection.execute(text("CREATE SCHEMA public"))
