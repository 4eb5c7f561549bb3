"""Where code under grade is: in a traceback, or at the moment when its time is up."""

import asyncio
import sys
from collections.abc import Iterable, Iterator
from traceback import walk_stack, walk_tb
from types import FrameType, TracebackType
from typing import Any

from proven_backend.loading import graded_file

Place = tuple[str, int]


def places(frames: Iterable[tuple[FrameType, int]]) -> list[Place]:
    """The (file, line) of those frames that run code under grade, in their order."""
    return [(file, line) for frame, line in frames if (file := graded_file(frame))]


def innermost(tb: TracebackType | None) -> str:
    """file:line of the last frame under grade in a traceback, or nothing."""
    found = places(walk_tb(tb))
    return "{}:{}".format(*found[-1]) if found else ""


def raised_at(error: BaseException) -> Place | None:
    """Where the code under grade itself raised an exception; None where a library did."""
    frames = list(walk_tb(error.__traceback__))
    return next(iter(places(frames[-1:])), None)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, those in its groups, and what led to them."""
    seen, queue = set[int](), [error]
    while queue:
        each = queue.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            queue += [each.__cause__, each.__context__]
            queue += each.exceptions if isinstance(each, BaseExceptionGroup) else []


def now(frame: FrameType | None) -> str:
    """file:line of the code under grade: on this stack, in a thread, or awaiting; or nothing."""
    threads = [place for top in sys._current_frames().values() for place in places(walk_stack(top))]
    found = places(walk_stack(frame)) or threads or places(_awaited())[::-1]
    return "{}:{}".format(*found[0]) if found else ""


def _awaited() -> Iterator[tuple[FrameType, int]]:
    """The frames in which the running loop's tasks wait, outermost first."""
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:  # no loop is running
        return
    for task in tasks:
        waits: Any = task.get_coro()
        while waits is not None:
            kind = {"coroutine": "cr", "generator": "gi", "async_generator": "ag"}
            prefix = kind.get(type(waits).__name__, "")
            frame = getattr(waits, f"{prefix}_frame", None)
            if frame is not None:
                yield frame, frame.f_lineno
            name = "gi_yieldfrom" if prefix == "gi" else f"{prefix}_await"
            waits = getattr(waits, name, None)
