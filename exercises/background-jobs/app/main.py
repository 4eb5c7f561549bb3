"""The processes: each makes its own broker and engine from the environment."""

import asyncio
from datetime import timedelta
from os import environ

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import create_async_engine
from taskiq import AsyncBroker, ScheduleSource, TaskiqScheduler
from taskiq.serializers import JSONSerializer
from taskiq_redis import ListRedisScheduleSource

from . import create_app
from .queue import create_broker, create_scheduler
from .tasks import add_tasks


def longest() -> timedelta:
    """What a shipment may take at the most: LONGEST_SECONDS, 20 minutes if unset."""
    return timedelta(seconds=float(environ.get("LONGEST_SECONDS", "1200")))


def later() -> ScheduleSource:
    """The tasks whose time has not come, kept in Redis."""
    return ListRedisScheduleSource(environ["REDIS_URL"], serializer=JSONSerializer())


async def carrier(reference: str) -> str:
    """Stands in for a real carrier: takes LABEL_SECONDS for a label."""
    await asyncio.sleep(float(environ.get("LABEL_SECONDS", "0")))
    return f"label {reference}"


def broker() -> AsyncBroker:
    """For `taskiq worker app.main:broker`."""
    made = create_broker(environ["REDIS_URL"], longest=longest())
    engine = create_async_engine(environ["DATABASE_URL"])
    add_tasks(made, engine, later=later(), carrier=carrier, longest=longest())
    return made


def scheduler() -> TaskiqScheduler:
    """For `taskiq scheduler app.main:scheduler`, which must run once."""
    return create_scheduler(broker(), later())


def web() -> FastAPI:
    """For `uvicorn --factory app.main:web`."""
    made = create_broker(environ["REDIS_URL"], longest=longest())
    return create_app(create_async_engine(environ["DATABASE_URL"]), broker=made, later=later())
