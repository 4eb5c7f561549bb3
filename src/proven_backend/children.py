"""Runs jobs side by side, each program in a forked child; their verdicts come back over pipes.

This process never imports code under grade.
"""

import os
import selectors
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proven_backend.child import Child, seconds
from proven_backend.programs import Program
from proven_backend.verdict import Verdict

GRACE = 2.0


@dataclass(eq=False)
class Job:
    """Checks to run on one program, and the verdicts so far, by the check's name.

    With `until_green` the run ends, after the first check, at the first that passes. `fault` is the
    one sentence that stands for the topic where the program could not be imported.
    """

    program: Program
    items: list[pytest.Item]
    until_green: bool = False
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    fault: Verdict | None = None

    def left(self) -> list[pytest.Item]:
        """The checks that still have no verdict."""
        if self.fault or (
            self.until_green and any(v.passed for v in list(self.verdicts.values())[1:])
        ):
            return []
        return [item for item in self.items if item.name not in self.verdicts]


@dataclass
class _Running:
    job: Job
    pid: int
    pipe: int
    deadline: float
    folder: Path
    buffer: bytes = b""
    current: str | None = None


def _cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Children:
    """Runs jobs, as many at once as there are cores at hand."""

    def __init__(self, config: pytest.Config, hidden: list[Path], limit: float) -> None:
        self.config, self.hidden, self.limit = config, hidden, limit
        memory = Path("/dev/shm")
        parent = memory if os.access(memory, os.W_OK) else None
        self.root = Path(tempfile.mkdtemp(prefix="proven-", dir=parent))
        self.selector = selectors.DefaultSelector()
        self.running: dict[int, _Running] = {}

    def run(self, jobs: list[Job]) -> Iterator[Job]:
        """Yields each job when all its verdicts are there."""
        waiting, cores = jobs[::-1], _cores()
        try:
            while waiting or self.running:
                while waiting and len(self.running) < cores:
                    self.start(waiting.pop())
                for running in self.wait():
                    if running.job.left():
                        waiting.append(running.job)
                    else:
                        yield running.job
        finally:
            for running in list(self.running.values()):
                self.finish(running)
            shutil.rmtree(self.root, ignore_errors=True)

    def start(self, job: Job) -> None:
        """Forks a child for what the job has left to do."""
        reader, writer = os.pipe()
        folder = Path(tempfile.mkdtemp(dir=self.root))
        pid = os.fork()
        if pid == 0:
            try:
                os.setpgid(0, 0)
                child = Child(job.program, self.config, writer, self.limit)
                until_green = job.until_green and not job.verdicts
                child.run(job.left(), folder, self.hidden, until_green)
            finally:
                os._exit(70)  # an error of our own must not unwind into a second pytest
        os.close(writer)
        os.set_blocking(reader, False)
        running = _Running(job, pid, reader, self.patience(None), folder)
        self.running[reader] = running
        self.selector.register(reader, selectors.EVENT_READ, running)

    def patience(self, item: pytest.Item | None) -> float:
        """Until when a child may be silent that is at this check, or still at its import."""
        limit = self.limit if item is None else seconds(item, self.limit)
        return time.monotonic() + limit + GRACE

    def wait(self) -> list[_Running]:
        """Reads what the children say; returns those that ended."""
        soonest = min(running.deadline for running in self.running.values())
        ended = []
        for key, _ in self.selector.select(max(0.0, soonest - time.monotonic())):
            running: _Running = key.data
            try:
                data = os.read(running.pipe, 1 << 16)
            except BlockingIOError:
                continue
            if data:
                self.read(running, data)
                item = next((i for i in running.job.items if i.name == running.current), None)
                running.deadline = self.patience(item)
            else:
                status = self.finish(running)
                self.went_away(running, status)
                ended.append(running)
        for running in list(self.running.values()):
            if time.monotonic() > running.deadline:
                self.finish(running)
                running.buffer = b""
                self.failed(running, "hang", "it did not answer in its time and was ended")
                ended.append(running)
        return ended

    def read(self, running: _Running, data: bytes) -> None:
        """Takes whole lines of a child's words."""
        *lines, running.buffer = (running.buffer + data).split(b"\n")
        for line in lines:
            try:
                verdict = Verdict.parse(line)
            except (ValueError, TypeError):
                continue
            if verdict.kind == "started":
                running.current = verdict.check
            elif verdict.check == "":
                running.job.fault = verdict
                running.current = None
            elif verdict.check == running.current:
                running.job.verdicts[verdict.check] = verdict
                running.current = None

    def finish(self, running: _Running) -> int:
        """Ends a child and all that it started; returns its wait status."""
        self.selector.unregister(running.pipe)
        os.close(running.pipe)
        del self.running[running.pipe]
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(running.pid, signal.SIGKILL)
        _, status = os.waitpid(running.pid, 0)
        shutil.rmtree(running.folder, ignore_errors=True)
        return status

    def went_away(self, running: _Running, status: int) -> None:
        """A verdict that did not arrive is a failure."""
        if running.current is None and running.job.left() and not running.job.verdicts:
            running.current = ""
        if running.current is None:
            return
        if os.WIFSIGNALED(status):
            how = f"was ended by {signal.Signals(os.WTERMSIG(status)).name}"
        else:
            how = f"ended itself (exit status {os.WEXITSTATUS(status)})"
        self.failed(running, "ended", f"the process of the code under grade {how}")

    def failed(self, running: _Running, kind: str, message: str) -> None:
        """Records a failure of what the child was at."""
        if running.current:
            running.job.verdicts[running.current] = Verdict(
                running.current, kind=kind, message=message
            )
        else:
            message += " while its app.py was imported"
            running.job.fault = Verdict("", kind=kind, message=message)
