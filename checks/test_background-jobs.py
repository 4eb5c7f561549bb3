"""The checks of background-jobs: what a task finds, what happens to it, and what it leaves."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update
from taskiq import InMemoryBroker, ScheduleSource
from taskiq.cli.scheduler.run import is_cron_task_now
from taskiq.receiver import Receiver

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
PICKLE = b"\x80"  # how a pickle begins by default
LONGEST = timedelta(minutes=40)  # what a task may take, where the check has a say


class Queue(InMemoryBroker):
    """Keeps what is sent to it until the check hands it to a worker."""

    def __init__(self, look=None):
        super().__init__()
        self.sent, self.down, self.look = [], False, look

    async def kick(self, message):
        if self.down:
            raise ConnectionError("the queue is down")
        if self.look and message.task_name == "ship":
            await self.look()
        self.sent.append(message)

    def holds(self, task):
        return [message.task_name for message in self.sent].count(task)

    async def work(self):
        """A worker runs all that is there; what was run, to be delivered again."""
        messages, self.sent = self.sent, []
        for message in messages:
            await self.receiver.callback(message.message)
        return messages


class Later(ScheduleSource):
    """Keeps what is to be sent later until the check says that it is time."""

    def __init__(self):
        self.kept = []

    async def get_schedules(self):
        return self.kept

    async def add_schedule(self, schedule):
        self.kept.append(schedule)

    def post_send(self, task):
        self.kept.remove(task)


async def each_schedule_once(scheduler):
    """Sends what the scheduler has, as if the time of each had come; what it sent."""
    sent = []
    for source in scheduler.sources:
        await source.startup()
        for task in list(await source.get_schedules()):
            await scheduler.on_ready(source, task)
            sent.append(task)
    return sent


def in_an_hour(task):
    """How often a scheduler sends it from noon to one o'clock."""
    if task.cron:
        minutes = (NOON + timedelta(minutes=minute) for minute in range(60))
        return sum(is_cron_task_now(task.cron, minute) for minute in minutes)
    every = task.interval or HOUR  # what has neither is sent once
    return HOUR // (every if isinstance(every, timedelta) else timedelta(seconds=every))


def shop_broker(app, redis):
    """A broker of the app's own making, on the check's Redis."""
    broker = app.create_broker("redis://shop", longest=LONGEST)
    for holder, pool in ((broker, "connection_pool"), (broker.result_backend, "redis_pool")):
        if hasattr(holder, pool):
            setattr(holder, pool, redis.another().connection_pool)
    return broker


async def worker(app, redis):
    """A worker's broker, started, and what it takes from the queue, one at a time."""
    broker = shop_broker(app, redis)
    broker.is_worker_process = True
    await broker.startup()
    return broker.listen()


def shipment_in(broker, message):
    """The id of the shipment that a message is about."""
    return broker.formatter.loads(getattr(message, "data", message)).args[0]


async def unacknowledged(redis):
    """What was taken from streams and not acknowledged yet: where it stands, and how."""
    return [
        (stream, group["name"], message)
        for stream in await redis.keys()
        if await redis.type(stream) == b"stream"
        for group in await redis.xinfo_groups(stream)
        for message in await redis.xpending_range(stream, group["name"], "-", "+", 100)
    ]


async def leave_idle(redis, time):
    """As if what is not acknowledged had been taken `time` ago."""
    idle = int(time.total_seconds() * 1000)
    for stream, group, message in await unacknowledged(redis):
        one, owner = [message["message_id"]], message["consumer"]
        await redis.xclaim(stream, group, owner, 0, one, idle=idle, justid=True)


async def test_enqueue_after_commit(app, start, db):
    """A task is sent after its shipment is stored; what is stored is answered 202, sent or not."""
    stored_when_sent = []

    async def look():
        stored_when_sent.append(await db.count(app.Shipment))

    queue = Queue(look)
    client = await start(broker=queue, later=Later())

    good = await client.post("/shipments?parcels=1")

    assert {"told": good.status_code, "stored when it was sent": stored_when_sent} == {
        "told": 202,
        "stored when it was sent": [1],
    }, "a quick worker must find the shipment"

    queue.down = True
    unsent = await client.post("/shipments?parcels=1")

    assert {"told": unsent.status_code, "stored": await db.count(app.Shipment)} == {
        "told": 202,
        "stored": 2,
    }, "a customer who is told of an error asks again, for a second shipment"


async def test_keep_tasks_when_a_worker_dies(app, start, redis):
    """A task waits for the first worker, and goes to another one when that worker has died."""
    at_work = []

    async def carrier(reference):
        at_work.append(len(await unacknowledged(redis)))
        return "a label"

    shop = shop_broker(app, redis)
    client = await start(broker=shop, later=Later(), carrier=carrier)
    early = (await client.post("/shipments?parcels=1")).json()
    dying = await worker(app, redis)
    await shop.find_task("ship").kiq(-1)

    first = shipment_in(shop, await anext(dying))
    await dying.aclose()
    await leave_idle(redis, LONGEST)
    second, taken = await worker(app, redis), []
    for other in (-2, -3):
        await shop.find_task("ship").kiq(other)
        taken.append(shipment_in(shop, await anext(second)))
    await leave_idle(redis, 3 * LONGEST)
    await shop.find_task("ship").kiq(-4)
    message = await anext(second)

    assert {
        "taken by the first worker": first == early,
        "taken from it after `longest`": early in taken,
        "taken from it after three times `longest`": shipment_in(shop, message) == early,
    } == {
        "taken by the first worker": True,
        "taken from it after `longest`": False,
        "taken from it after three times `longest`": True,
    }, "a shipment that was sent before the first worker started; `longest` is 40 minutes"

    before = await unacknowledged(redis)
    length = await redis.xlen(before[0][0])
    await Receiver(shop, max_async_tasks=1).callback(message)

    after = await unacknowledged(redis)
    assert {"before": len(before) - at_work[0], "after": len(before) - len(after)} == {
        "before": 0,
        "after": 1,
    }, "messages acknowledged before its work, and after"

    room = getattr(shop, "maxlen", None)
    forgets = room is not None or await redis.xlen(before[0][0]) < length
    assert {"forgets": forgets, "keeps 50,000": room is None or room >= 50_000} == {
        "forgets": True,
        "keeps 50,000": True,
    }, "the stream must forget what is done, and keep what waits"


@pytest.mark.on_postgresql_too("a claim is a race")
async def test_claim_before_you_work(app, start, db):
    """A shipment delivered to two workers is shipped by one, and by another when that one died."""
    bought, again, now = [], [], [NOON]
    queue, later = Queue(), Later()

    async def carrier(reference):
        bought.append(reference)
        queue.sent, again[:] = again[:], []
        await queue.work()  # by another worker, while this one waits
        return "a label"

    client = await start(broker=queue, later=later, carrier=carrier, clock=lambda: now[0])
    await client.post("/shipments?parcels=1")
    now[0] += HOUR / 2
    claimed = update(app.Shipment).values(status="running", claimed_at=now[0])

    async with db.rival(claimed):
        delivered = await queue.work()
    now[0] += timedelta(minutes=19)
    queue.sent = delivered
    await queue.work()

    assert bought == [], "bought while another worker had the shipment, just now or for 19 minutes"

    now[0] += HOUR
    await each_schedule_once(app.create_scheduler(queue, later))
    queue.sent += delivered
    again[:] = delivered
    await queue.work()

    [shipment] = await db.rows(app.Shipment)
    assert {"bought": bought, "status": shipment.status} == {"bought": ["1-1"], "status": "done"}, (
        "more than an hour later, when that worker has died, and the message came to two others"
    )


async def test_report_progress_in_short_transactions(app, start, db):
    """A customer sees each label as it is bought; no connection is held while the carrier works."""
    asked, labelled, labels, in_use = [], [], [], []

    async def carrier(reference):
        asked.append(reference)
        labelled.append(await db.scalar(select(app.Shipment.labelled)))
        labels.append(await db.count(app.Label))
        in_use.append(db.checked_out())
        return "a label"

    queue = Queue()
    client = await start(broker=queue, later=Later(), carrier=carrier)
    shipment = (await client.post("/shipments?parcels=4")).json()
    await db.add(app.Label(shipment_id=shipment, number="bought by a worker that died"))
    await db.execute(update(app.Shipment).values(labelled=1))

    await queue.work()

    seen = {"asked": asked, "labelled": labelled, "labels": labels, "connections in use": in_use}
    assert seen == {
        "asked": [f"{shipment}-2", f"{shipment}-3", f"{shipment}-4"],
        "labelled": [1, 2, 3],
        "labels": [1, 2, 3],
        "connections in use": [0, 0, 0],
    }, "seen from outside at the three calls of `carrier`, after one label of four"


async def test_retry_on_purpose(app, start, db):
    """The carrier is asked three times when it is down, a minute apart, once when it refuses."""
    tries = {"down": 0, "refused": 0}

    async def carrier(reference):
        kind = "down" if reference == "1-1" else "refused"
        tries[kind] += 1
        raise app.CarrierDownError if kind == "down" else app.RefusedError

    queue, later = Queue(), Later()
    client = await start(broker=queue, later=later, carrier=carrier)
    await client.post("/shipments?parcels=1")
    await client.post("/shipments?parcels=1")

    delivered = await queue.work()

    minutes = [round((task.time - datetime.now(UTC)) / timedelta(minutes=1)) for task in later.kept]
    assert {"sent again at once": queue.holds("ship"), "sent again after minutes": minutes} == {
        "sent again at once": 0,
        "sent again after minutes": [1],
    }, "the first of two shipments, for which the carrier is down; the second is refused"

    queue.sent = delivered[-1:]  # what was refused comes twice
    for _ in range(2):
        await each_schedule_once(app.create_scheduler(queue, later))
        await queue.work()

    states = [shipment.status for shipment in await db.rows(app.Shipment)]
    to_come = len(later.kept) + queue.holds("ship")
    assert {"tries": tries, "tries to come": to_come, "status": states} == {
        "tries": {"down": 3, "refused": 1},
        "tries to come": 0,
        "status": ["failed", "refused"],
    }, "after both delays; the message of what was refused came twice"


async def test_expire_results(app, start, db, redis):
    """What a task leaves in Redis goes away by itself, and runs no code when it is read."""
    broker = shop_broker(app, redis)
    client = await start(broker=broker, later=Later())
    await client.post("/shipments?parcels=1")

    deliveries = broker.listen()
    await Receiver(broker, max_async_tasks=1).callback(await anext(deliveries))
    await deliveries.aclose()

    [shipment] = await db.rows(app.Shipment)
    left = {"status": shipment.status, "for ever": 0, "pickles": 0}
    for key in await redis.keys():
        if await redis.type(key) == b"string":
            left["for ever"] += await redis.ttl(key) == -1
            left["pickles"] += (await redis.get(key)).startswith(PICKLE)

    assert left == {"status": "done", "for ever": 0, "pickles": 0}, "results in Redis"


async def test_schedule_in_one_place(app, start, db, monkeypatch):
    """However many processes start, only the scheduler sends "sweep", which ships what was lost."""
    queues, later, pause = [Queue(), Queue()], Later(), asyncio.sleep
    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "sleep", lambda _: pause(0))  # nobody waits for the next minute
        for queue in queues:
            await start(broker=queue, later=later, clock=lambda: NOON)
        for _ in range(3):
            await pause(0)  # what the start left running goes on
    await db.add(app.Shipment(parcels=1, asked_at=NOON - HOUR))

    unscheduled = sum(queue.holds("sweep") for queue in queues)
    scheduled = await each_schedule_once(app.create_scheduler(queue, later))
    hourly = sum(in_an_hour(task) for task in scheduled if task.task_name == "sweep")
    await queue.work()
    await queue.work()

    [shipment] = await db.rows(app.Shipment)
    assert {"by processes": unscheduled, "hourly": hourly, "status": shipment.status} == {
        "by processes": 0,
        "hourly": 60,
        "status": "done",
    }, "sweeps sent by two processes, and by the scheduler; a shipment that no message is left of"
