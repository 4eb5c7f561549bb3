"""A shop tells prices: with tax, and by person."""

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    pass


def create_app(engine: AsyncEngine) -> FastAPI:
    app = FastAPI()

    @app.get("/taxed/{cents}")
    async def taxed(cents: int, percent: int = 20) -> int:
        return cents + cents * percent // 100

    @app.get("/shared/{cents}")
    async def shared(cents: int, people: int) -> int:
        return round(cents / people)

    return app
