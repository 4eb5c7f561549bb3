"""The queue: where tasks and their results are kept, and what runs them by the clock."""

from datetime import timedelta

from taskiq import AsyncBroker, AsyncResultBackend, ScheduleSource, TaskiqScheduler
from taskiq.schedule_sources import LabelScheduleSource
from taskiq.serializers import JSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

LONGEST = timedelta(minutes=20)


def keep_results(url: str) -> AsyncResultBackend[int]:
    """Where workers leave what a task returned or raised."""
    # TODO expire-results: what does this write to Redis, and for how long?
    return RedisAsyncResultBackend(url)


def create_broker(url: str, *, longest: timedelta = LONGEST) -> AsyncBroker:
    """A broker on the Redis at `url`; no task takes longer than `longest`."""
    # TODO keep-tasks-when-a-worker-dies: when does another worker get a task, and what stays?
    broker = RedisStreamBroker(url)
    return broker.with_result_backend(keep_results(url))


def create_scheduler(broker: AsyncBroker, later: ScheduleSource) -> TaskiqScheduler:
    """Sends the tasks that have a "schedule" label, and those in `later`; one process runs it."""
    return TaskiqScheduler(broker, [LabelScheduleSource(broker), later])
