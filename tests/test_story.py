"""The story of what an app sent."""

from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from proven_backend.story import Story


class Base(DeclarativeBase):
    pass


class Tea(Base):
    __tablename__ = "teas"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


async def test_rows_are_counted_not_the_values_of_one() -> None:
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    story, names = Story(lambda: 0), ["green", "black", "white"]
    rows: list[dict[str, Any]] = [{"name": name} for name in names]
    story.watch(engine)

    async with AsyncSession(engine) as session:
        await session.execute(insert(Tea), rows)
        session.add_all(Tea(**row) for row in rows)
        await session.flush()
    await engine.dispose()

    sent = [event.text for event in story.events if event.kind == "sql"]
    assert sent[0] == "INSERT INTO teas … (3 rows)"
    assert not any("rows)" in text for text in sent[1:])
    assert "'green'" in sent[1]
