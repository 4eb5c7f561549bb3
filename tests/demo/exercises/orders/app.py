"""A shop takes orders: say "stored" only when they are, and list them all."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str]


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session
        await session.commit()


# TODO commit-before-reply: when does FastAPI leave this dependency?
SessionDep = Annotated[AsyncSession, Depends(open_session)]


def create_app(engine: AsyncEngine) -> FastAPI:
    app = FastAPI()
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)

    @app.post("/orders/{sku}", status_code=201)
    async def order(sku: str, session: SessionDep) -> dict[str, str]:
        session.add(Order(sku=sku))
        await session.flush()
        return {"sku": sku}

    @app.get("/orders")
    async def orders(session: SessionDep) -> list[str]:
        # TODO list-in-order: which order came first?
        raise NotImplementedError

    return app
