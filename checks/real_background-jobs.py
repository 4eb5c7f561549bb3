"""A rule of background-jobs with real workers on a real Redis, which end as workers end."""

import asyncio
from datetime import timedelta

import pytest
from taskiq.serializers import JSONSerializer
from taskiq_redis import ListRedisScheduleSource

from proven_backend.processes import until

ENDS = ("SIGKILL", "SIGTERM", "silence")
WAKES = 20  # short shipments, one after the other: together they take longer than a task may idle


class Shop:
    """A web app and its workers, on a database of the Redis server that no other shop has."""

    def __init__(self, number, app, db, redis, launch):
        self.db, self.launch, self.url = db, launch, f"{redis.url}?db={number}"
        self.seams = {
            "broker": app.create_broker(self.url, longest=timedelta(seconds=1)),
            "later": ListRedisScheduleSource(self.url, serializer=JSONSerializer()),
        }

    async def worker(self, label_seconds, options=""):
        """A worker whose carrier takes some seconds for a label."""
        return await self.launch(
            *("taskiq", "worker", "app.main:broker", "--workers", "1"),
            REDIS_URL=self.url + options,
            DATABASE_URL=self.db.url,
            LONGEST_SECONDS="1",
            LABEL_SECONDS=str(label_seconds),
        )

    async def ship(self, parcels):
        """Asks for a shipment; its id."""
        return (await self.client.post("/shipments", params={"parcels": parcels})).json()

    async def look(self, shipment):
        """What the customer is told of a shipment."""
        return (await self.client.get(f"/shipments/{shipment}")).json()

    async def begun(self, shipment):
        return (await self.look(shipment))["labelled"] >= 1

    async def done(self, shipment):
        return (await self.look(shipment))["status"] == "done"

    async def end_of(self, shipment):
        """What it came to, after others gave the workers messages, and the time that they take."""
        for _ in range(WAKES):
            if await self.done(shipment):
                break
            other = await self.ship(1)
            await until(lambda other=other: self.done(other))
        return await self.look(shipment)


@pytest.mark.time_limit(90)
async def test_keep_tasks_when_a_worker_dies(app, db, redis, start, launch):
    """A shipment is labelled to its end, however the worker ends that began it."""
    shops = [Shop(number, app, db, redis, launch) for number in range(3)]
    for shop in shops:
        shop.client = await start(**shop.seams)

    async def killed(shop):
        first = await shop.worker(0.3)
        shipment = await shop.ship(3)
        await until(lambda: shop.begun(shipment))
        await first.kill()
        await shop.worker(0.3)
        return await shop.end_of(shipment)

    async def told_to_end(shop):
        first = await shop.worker(0.3)
        shipment = await shop.ship(3)
        await until(lambda: shop.begun(shipment))
        first.terminate()
        await shop.worker(0.3)
        return await shop.end_of(shipment)

    async def left_alone(shop):
        await shop.worker(1, options="&socket_timeout=2.5")  # 5 by default: as long is waited
        return await shop.end_of(await shop.ship(3))

    ends = await asyncio.gather(killed(shops[0]), told_to_end(shops[1]), left_alone(shops[2]))

    whole = {"status": "done", "labelled": 3, "parcels": 3}
    assert dict(zip(ENDS, ends, strict=True)) == {
        "SIGKILL": whole,
        "SIGTERM": whole,
        "silence": whole,
    }, "a shipment was lost with its worker"
