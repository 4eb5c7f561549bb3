"""The shop's shipments: make its background work survive the night.

A customer asks for a shipment; a worker buys a label for each parcel from the carrier, which takes
minutes, and the customer watches. In the evening rush shipments stay "waiting" for ever, some
parcels get two labels, and after each deployment a few are gone without a line in the log.

What is there: the tables (`models.py`), the routes below, the queue (`queue.py`), the tasks "ship"
and "sweep" (`tasks.py`), and the processes (`main.py`, right as it is, and the only file that reads
the environment: REDIS_URL, DATABASE_URL, LONGEST_SECONDS, LABEL_SECONDS):

    uvicorn --factory app.main:web    any number of them
    taskiq worker app.main:broker     any number of them, started or stopped at any time
    taskiq scheduler app.main:scheduler     exactly one

POST /shipments?parcels=2 answers 202 and the id, also while the queue is down: the shipment is
stored, "sweep" sends it later. GET /shipments/1 tells status, labelled and parcels. The status is
"waiting", "running" (since `claimed_at`), "done", "failed" (it may be tried again) or "refused".
No shipment takes longer than `longest`, 20 minutes if unset: one that runs for longer lost its
worker. Another must get it before three times `longest` are over, and goes on after the last label.
Up to 50,000 may wait for their turn. "sweep" runs once a minute.
A task gets three tries in all when the carrier is down (`CarrierDownError`), not at once but a
minute apart. What the carrier refuses (`RefusedError`), it is not asked for again.

`create_app(engine, *, broker, later, ...)` takes the world outside as keywords:
`broker`              sends tasks: what `create_broker(url)` gives, one of taskiq_redis
`later`               a ScheduleSource: keeps tasks until their time has come
`carrier(reference)`  buys a label, slow; gives its number; "7-2" is the second parcel of shipment
                      7; two calls are two labels
`clock()`             the time, aware
`add_tasks` and `create_scheduler(broker, later)` serve the worker and the scheduler the same way.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Annotated

from fastapi import FastAPI, HTTPException, Path, Query
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from taskiq import AsyncBroker, ScheduleSource, SendTaskError

from .models import Base, Label, Shipment
from .queue import create_broker, create_scheduler
from .tasks import Carrier, CarrierDownError, RefusedError, add_tasks, free_label, utc_now

__all__ = [
    "Base",
    "CarrierDownError",
    "Label",
    "RefusedError",
    "Shipment",
    "add_tasks",
    "create_app",
    "create_broker",
    "create_scheduler",
]


def create_app(
    engine: AsyncEngine,
    *,
    broker: AsyncBroker,
    later: ScheduleSource,
    carrier: Carrier = free_label,
    clock: Callable[[], datetime] = utc_now,
) -> FastAPI:
    """The shop's shipments on `engine`, with the world outside in the keywords."""
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    ship = add_tasks(broker, engine, later=later, carrier=carrier, clock=clock)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await broker.startup()
        yield
        await broker.shutdown()

    app = FastAPI(lifespan=lifespan)

    @app.post("/shipments", status_code=202)
    async def ask(parcels: Annotated[int, Query(ge=1, le=50)]) -> int:
        shipment = Shipment(parcels=parcels, asked_at=clock())
        async with sessions.begin() as session:
            session.add(shipment)
        with suppress(SendTaskError):
            await ship.kiq(shipment.id)
        return shipment.id

    @app.get("/shipments/{shipment_id}")
    async def watch(shipment_id: Annotated[int, Path(ge=1, lt=2**31)]) -> dict[str, str | int]:
        async with sessions() as session:
            shipment = await session.get(Shipment, shipment_id)
        if shipment is None:
            raise HTTPException(404, "no such shipment")
        return {
            "status": shipment.status,
            "labelled": shipment.labelled,
            "parcels": shipment.parcels,
        }

    return app
