"""How long four ways to insert the same rows take on SQLite, each as a ratio to the fastest.

The ways take turns, so that a machine whose speed drifts does it to all of them. Each run has a new
database file and ends with its commit; making the file and the engine is not counted.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ROWS, RUNS = 10_000, 3
Rows = Sequence[dict[str, Any]]


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str]
    name: Mapped[str]
    price: Mapped[int]


async def rows_beside(session: AsyncSession, rows: Rows) -> None:
    await session.execute(insert(Product), rows)


async def rows_as_values(session: AsyncSession, rows: Rows) -> None:
    await session.execute(insert(Product).values(list(rows)))


async def objects_together(session: AsyncSession, rows: Rows) -> None:
    session.add_all(Product(**row) for row in rows)
    await session.flush()


async def objects_one_by_one(session: AsyncSession, rows: Rows) -> None:
    for row in rows:
        product = Product(**row)
        session.add(product)
        await session.flush()
        await session.refresh(product)


WAYS = {
    "execute(insert(M), rows)": rows_beside,
    "insert(M).values(rows)": rows_as_values,
    "add_all, one flush": objects_together,
    "add, flush, refresh each": objects_one_by_one,
}


async def timed(way: Callable[[AsyncSession, Rows], Awaitable[None]], rows: Rows) -> float:
    """Seconds until a way's rows are committed; ends the bench where some are missing."""
    with tempfile.TemporaryDirectory() as folder:
        engine = create_async_engine(f"sqlite+aiosqlite:///{Path(folder, 'shop.db')}")
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine) as session:
            started = time.perf_counter()
            await way(session, rows)
            await session.commit()
            seconds = time.perf_counter() - started
            stored = await session.scalar(select(func.count()).select_from(Product))
        await engine.dispose()
    if stored != len(rows):
        raise SystemExit(f"{way.__name__} stored {stored} of {len(rows)} rows")
    return seconds


def main() -> None:
    """Runs and prints the table."""
    rows = [{"sku": f"sku-{number}", "name": "Tea", "price": number} for number in range(ROWS)]
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(RUNS):
        for name, way in WAYS.items():
            seconds[name].append(asyncio.run(timed(way, rows)))
    fastest = min(statistics.median(each) for each in seconds.values())
    print(f"{f'insert {ROWS:,} rows, SQLite':26}{'median s':>10}{'worst s':>10}{'x fastest':>11}")
    for name, each in seconds.items():
        median = statistics.median(each)
        print(f"{name:26}{median:10.3f}{max(each):10.3f}{median / fastest:11.1f}")


if __name__ == "__main__":
    main()
