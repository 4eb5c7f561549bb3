"""Runs jobs side by side in child processes, which send their verdicts back.

This process never imports code under grade.
"""

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proven_backend import spawned
from proven_backend.child import SLOT, Child, Run, seconds
from proven_backend.programs import Program
from proven_backend.verdict import Verdict

GRACE = 2.0
ROOM = 16 * 2**20  # bytes; the databases of a run
FORKS = hasattr(os, "fork")
START_UP = 60.0  # s, at the most, until a child that is started anew has loaded its libraries
LOOK = 0.01  # s between two looks at children that cannot be waited for


@dataclass(eq=False)
class Job:
    """Checks to run on one program, and the verdicts so far, by the check's name.

    With `until_green` the run ends, after the first check, at the first that passes; that job's
    times say which is likely to be the quickest. `real` checks start processes, which only our own
    programs may. `alone` says that it ran again without company. `fault` is the one sentence that
    stands for the topic where the program could not be imported.
    """

    program: Program
    items: list[pytest.Item]
    until_green: "Job | None" = None
    real: bool = False
    alone: bool = False
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    fault: Verdict | None = None

    def again(self) -> None:
        """Forgets all verdicts, to run without company."""
        self.verdicts, self.fault, self.alone = {}, None, True

    def left(self) -> list[pytest.Item]:
        """The checks that still have no verdict, in the order in which they are to run."""
        if self.fault or (
            self.until_green and any(v.passed for v in list(self.verdicts.values())[1:])
        ):
            return []
        items = self.items
        if self.until_green and (known := self.until_green.verdicts):
            quickest = sorted(items[1:], key=lambda item: known.get(item.name, Verdict("")).seconds)
            items = [items[0], *quickest]
        return [item for item in items if item.name not in self.verdicts]


Group = list[Job]


class _Forked:
    """A child that is a copy of this process; what it says comes over a pipe."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid, self.pipe = pid, pipe
        os.set_blocking(pipe, False)

    def read(self) -> bytes | None:
        """What it said since the last call; None for nothing, no bytes once it is gone."""
        try:
            return os.read(self.pipe, 1 << 16)
        except BlockingIOError:
            return None

    def end(self) -> str:
        """Ends it and all that it started; says how it ended, or would have."""
        os.close(self.pipe)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        return _ending(os.waitstatus_to_exitcode(status))


class _Spawned:
    """A child started anew, where there is no fork; what it says is written to a file.

    Pipes could not be waited for on Windows.
    """

    def __init__(self, job: dict[str, Any], folder: Path) -> None:
        answers, task = folder / "answers", folder / "job"
        answers.touch()
        task.write_text(json.dumps(job | {"answers": str(answers)}))
        self.file = answers.open("rb")
        command = [sys.executable, "-P", "-m", "proven_backend.spawned", str(task)]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)

    def read(self) -> bytes | None:
        """What it said since the last call; None for nothing, no bytes once it is gone."""
        gone = self.process.poll() is not None
        return self.file.read() or (b"" if gone else None)

    def end(self) -> str:
        """Ends it; says how it ended, or would have."""
        self.process.kill()
        self.file.close()
        return _ending(self.process.wait())


def _ending(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended itself (exit status {code})"


@dataclass(eq=False)
class _Running:
    group: Group
    jobs: list[Job]
    child: _Forked | _Spawned
    deadline: float
    folder: Path
    slot: int
    buffer: bytes = b""
    number: int = 0
    current: str | None = None

    @property
    def job(self) -> Job:
        """The job that the child is at."""
        return self.jobs[self.number]


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _roomy() -> Path:
    """Where the files of a run go: memory, or the temporary folder. Raises OSError for no room."""
    places = [Path("/dev/shm"), Path(tempfile.gettempdir())]
    for place in places:
        if os.access(place, os.W_OK) and shutil.disk_usage(place).free >= ROOM:
            return place
    full = f"{places[0]} and {places[1]}"
    raise OSError(f"no room for the files of a run, {ROOM >> 20} MiB, in {full}: make some")


def _sweep(parent: Path) -> None:
    """Removes what runs left behind whose process was killed."""
    for folder in parent.glob("proven-*-*"):
        pid = folder.name.split("-")[1]
        if pid.isdecimal() and not _alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    if os.name == "nt":  # there, signal 0 would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


class Children:
    """Runs groups of jobs, a few at once; each in a `slot`, by number, that no other has then.

    The jobs of a group share a child, one after the other: half the time of a short job is that of
    a fresh process (its pages are copied as they are touched). `heard` is told of each job that has
    one more verdict. The run is given up when there is something to read at `stop`, a descriptor.
    """

    def __init__(
        self,
        config: pytest.Config,
        hidden: list[Path],
        limit: float,
        slots: int,
        heard: Callable[[Job], None] = lambda _job: None,
        stop: int | None = None,
    ) -> None:
        self.config, self.hidden, self.limit, self.slots = config, hidden, limit, slots
        self.heard = heard
        parent = _roomy()
        _sweep(parent)
        self.root = Path(tempfile.mkdtemp(prefix=f"proven-{os.getpid()}-", dir=parent))
        self.selector = selectors.DefaultSelector()
        self.stopped = False
        if stop is not None:
            self.selector.register(stop, selectors.EVENT_READ)
        self.waiting: list[Group] = []
        self.running: list[_Running] = []

    def run(self, groups: list[Group]) -> Iterator[Group]:
        """Yields each group when all its verdicts are there."""
        self.waiting = groups[::-1]
        try:
            while self.waiting or self.running:
                while self.waiting and len(self.running) < self.slots:
                    self.start(self.waiting.pop())
                ended = self.wait()
                if self.stopped:
                    return
                for running in ended:
                    if any(job.left() for job in running.group):
                        self.waiting.append(running.group)
                    else:
                        yield running.group
        finally:
            for running in list(self.running):
                self.finish(running)
            shutil.rmtree(self.root, ignore_errors=True)

    def start(self, group: Group) -> None:
        """Starts a child for what the group has left to do."""
        jobs = [job for job in group if job.left()]
        slot = min(set(range(self.slots)) - {each.slot for each in self.running})
        folder = Path(tempfile.mkdtemp(dir=self.root))
        runs = [
            (job.program, job.left(), bool(job.until_green and not job.verdicts)) for job in jobs
        ]
        hidden = None if any(job.real for job in jobs) else self.hidden
        child = (self.fork if FORKS else self.spawn)(runs, folder, hidden, slot)
        deadline = self.patience(None) + (0 if FORKS else START_UP)
        running = _Running(group, jobs, child, deadline, folder, slot)
        self.running.append(running)
        if isinstance(child, _Forked):
            self.selector.register(child.pipe, selectors.EVENT_READ, running)

    def fork(self, runs: list[Run], folder: Path, hidden: list[Path] | None, slot: int) -> _Forked:
        """A child that has loaded all that this process has."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setpgid(0, 0)
                self.config.stash[SLOT] = slot
                Child(self.config, writer, self.limit).run(runs, folder, hidden)
            finally:
                os._exit(70)  # an error of our own must not unwind into a second pytest
        os.close(writer)
        return _Forked(pid, reader)

    def spawn(
        self, runs: list[Run], folder: Path, hidden: list[Path] | None, slot: int
    ) -> _Spawned:
        """A child that loads all anew."""
        place = Path(tempfile.mkdtemp(dir=self.root))
        return _Spawned(spawned.task(self.config, runs, folder, hidden, self.limit, slot), place)

    def patience(self, item: pytest.Item | None) -> float:
        """Until when a child may be silent that is at this check, or still at its import."""
        limit = self.limit if item is None else seconds(item, self.limit)
        return time.monotonic() + limit + GRACE

    def wait(self) -> list[_Running]:
        """Reads what the children say; returns those that ended."""
        soonest = min(running.deadline for running in self.running)
        ended = []
        for running in self.talking(max(0.0, soonest - time.monotonic())):
            data = running.child.read()
            if data:
                self.read(running, data)
                item = next((i for i in running.job.items if i.name == running.current), None)
                running.deadline = self.patience(item)
            elif data is not None:
                self.went_away(running, self.finish(running))
                ended.append(running)
        for running in list(self.running):
            if time.monotonic() > running.deadline:
                self.finish(running)
                running.buffer = b""
                self.failed(running, "hang", "it did not answer in its time and was ended")
                ended.append(running)
        return ended

    def talking(self, seconds: float) -> list[_Running]:
        """The children that may have said something, after `seconds` at the latest."""
        if not FORKS:
            time.sleep(min(seconds, LOOK))
            return list(self.running)
        keys = [key for key, _ in self.selector.select(seconds)]
        self.stopped = any(key.data is None for key in keys)
        return [key.data for key in keys if key.data]

    def read(self, running: _Running, data: bytes) -> None:
        """Takes whole lines of a child's words."""
        *lines, running.buffer = (running.buffer + data).split(b"\n")
        for line in lines:
            try:
                verdict = Verdict.parse(line)
            except (ValueError, TypeError):
                continue
            if verdict.kind == "next" and running.number + 1 < len(running.jobs):
                running.number += 1
            elif verdict.kind == "started":
                running.current = verdict.check
            elif verdict.check == "":
                running.job.fault = verdict
                running.current = None
                self.heard(running.job)
            elif verdict.check == running.current:
                running.job.verdicts[verdict.check] = verdict
                running.current = None
                self.heard(running.job)

    def finish(self, running: _Running) -> str:
        """Ends a child and all that it started; says how it ended, or would have."""
        if isinstance(running.child, _Forked):
            self.selector.unregister(running.child.pipe)
        self.running.remove(running)
        how = running.child.end()
        shutil.rmtree(running.folder, ignore_errors=True)
        return how

    def went_away(self, running: _Running, how: str) -> None:
        """A verdict that did not arrive is a failure."""
        if running.current is None and running.job.left() and not running.job.verdicts:
            running.current = ""
        if running.current is not None:
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
        self.heard(running.job)
