"""The queue: where tasks and their results are kept, and what runs them by the clock."""

from datetime import timedelta

from taskiq import AsyncBroker, AsyncResultBackend, ScheduleSource, TaskiqScheduler
from taskiq.schedule_sources import LabelScheduleSource
from taskiq.serializers import JSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

LONGEST = timedelta(minutes=20)


def keep_results(url: str) -> AsyncResultBackend[int]:
    """Where workers leave what a task returned or raised."""
    return RedisAsyncResultBackend(url, serializer=JSONSerializer(), result_ex_time=3600)


def create_broker(url: str, *, longest: timedelta = LONGEST) -> AsyncBroker:
    """A broker on the Redis at `url`; no task takes longer than `longest`."""
    idle = 2 * int(longest.total_seconds() * 1000)
    broker = RedisStreamBroker(url, idle_timeout=idle, maxlen=100_000)
    return broker.with_result_backend(keep_results(url))


def create_scheduler(broker: AsyncBroker, later: ScheduleSource) -> TaskiqScheduler:
    """Sends the tasks that have a "schedule" label, and those in `later`; one process runs it."""
    return TaskiqScheduler(broker, [LabelScheduleSource(broker), later])
