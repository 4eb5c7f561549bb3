"""The tasks, and what they need of the world outside."""

from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from taskiq import (
    AsyncBroker,
    AsyncTaskiqDecoratedTask,
    ScheduleSource,
    SmartRetryMiddleware,
    TaskiqEvents,
    TaskiqState,
)

from .models import Label, Shipment
from .queue import LONGEST

Carrier = Callable[[str], Awaitable[str]]


class CarrierDownError(Exception):
    """The carrier does not answer; it may in a minute."""


class RefusedError(Exception):
    """The carrier does not take this parcel, whenever it is asked."""


async def free_label(reference: str) -> str:
    """A label of no carrier."""
    return f"free label {reference}"


def utc_now() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


def add_tasks(
    broker: AsyncBroker,
    engine: AsyncEngine,
    *,
    later: ScheduleSource,
    carrier: Carrier = free_label,
    clock: Callable[[], datetime] = utc_now,
    longest: timedelta = LONGEST,
) -> AsyncTaskiqDecoratedTask[[int], Coroutine[Any, Any, int]]:
    """Gives the broker its tasks; returns "ship", which gives the number of labels bought."""
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def claim(shipment_id: int) -> Shipment | None:
        """The shipment, from now on ours alone; None where it is over or somebody's."""
        # TODO claim-before-you-work: what if two workers come here at once, and one dies later?
        now = clock()
        async with sessions.begin() as session:
            shipment = await session.get_one(Shipment, shipment_id)
            if shipment.status in {"done", "refused"}:
                return None
            shipment.status, shipment.claimed_at = "running", now
            return shipment

    async def leave(shipment_id: int, status: str) -> None:
        """The shipment, no longer ours."""
        async with sessions.begin() as session:
            shipment = await session.get_one(Shipment, shipment_id)
            shipment.status, shipment.claimed_at = status, None

    async def note(session: AsyncSession, shipment: Shipment, count: int, number: str) -> None:
        """Notes a label that was bought, the `count`th of its shipment."""
        session.add(Label(shipment_id=shipment.id, number=number))
        stored = update(Shipment).where(Shipment.id == shipment.id)
        await session.execute(stored.values(labelled=count))

    async def buy_labels(shipment: Shipment) -> int:
        """Buys the labels that are missing; how many."""
        missing = range(shipment.labelled + 1, shipment.parcels + 1)
        # TODO report-progress-in-short-transactions: who sees this before the last label is bought?
        async with sessions.begin() as session:
            for count in missing:
                number = await carrier(f"{shipment.id}-{count}")
                await note(session, shipment, count, number)
        return len(missing)

    # TODO retry-on-purpose: who reads these two labels, and which errors go away by waiting?
    @broker.task("ship", retry_on_error=True, max_retries=3)
    async def ship(shipment_id: int) -> int:
        shipment = await claim(shipment_id)
        if shipment is None:
            return 0
        try:
            bought = await buy_labels(shipment)
        except Exception as error:
            await leave(shipment_id, "refused" if isinstance(error, RefusedError) else "failed")
            raise
        await leave(shipment_id, "done")
        return bought

    async def find_lost() -> list[int]:
        """The shipments that no worker has begun, or ended, in the time that one takes."""
        since = func.coalesce(Shipment.claimed_at, Shipment.asked_at)
        stale = Shipment.status.in_(("waiting", "running")), since < clock() - longest
        async with sessions() as session:
            return list(await session.scalars(select(Shipment.id).where(*stale).limit(100)))

    # TODO schedule-in-one-place: how often does this run in an hour, with four workers?
    @broker.task("sweep")
    async def sweep() -> None:
        for shipment_id in await find_lost():
            await ship.kiq(shipment_id)

    @broker.on_event(TaskiqEvents.WORKER_STARTUP)
    async def sweep_at_the_start(_: TaskiqState) -> None:
        await sweep.kiq()

    @broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
    async def close_connections(_: TaskiqState) -> None:
        await engine.dispose()

    return ship
