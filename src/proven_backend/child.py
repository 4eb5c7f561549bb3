"""The process that imports programs and runs checks on them.

Everything that decides is bound before the program's code is imported, and a check has passed only
if its own last line was reached: patching pytest afterwards gains nothing.
"""

import functools
import gc
import inspect
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NoReturn

import pytest
from _pytest.runner import runtestprotocol

from proven_backend import frames, sandbox
from proven_backend.loading import load, unload
from proven_backend.programs import Program
from proven_backend.story import Story, one_line
from proven_backend.verdict import Verdict

PROGRAMMING_ERRORS = (NameError, TypeError, AttributeError, ImportError, SyntaxError)
EVENTS = 300
ALARM = hasattr(signal, "setitimer")
SOLUTION = "solution"
NO_TRACEBACK = "value"  # pytest's cheapest style: a long one of a failed request takes it 0.3 s
APP = pytest.StashKey[ModuleType]()
FOLDER = pytest.StashKey[Path]()
SLOT = pytest.StashKey[int]()
PROGRAM = pytest.StashKey[Program]()
STORY = pytest.StashKey[Story]()
REPORTS = pytest.StashKey[list[pytest.TestReport]]()
Run = tuple[Program, list[pytest.Item], bool]
CALL = pytest.StashKey[pytest.CallInfo[None]]()


def alarm(limit: float) -> None:
    """Calls `Child.hang` in `limit` seconds (0: never); without alarms, as on Windows, nobody does,
    and the process that asked ends the child without a word on where it was."""
    if ALARM:
        signal.setitimer(signal.ITIMER_REAL, limit)


def seconds(item: pytest.Item, limit: float) -> float:
    """How long a check may take: the usual limit, or what its mark grants a slow tool."""
    mark = item.get_closest_marker("time_limit")
    return max(limit, float(mark.args[0])) if mark else limit


class Child:
    """Runs checks on programs and sends each verdict to a pipe, as it is known."""

    program: Program

    def __init__(self, config: pytest.Config, pipe: int, limit: float) -> None:
        self.config, self.limit = config, limit
        self.verdict = Verdict("")
        self.started = time.perf_counter()
        write, exit_now = os.write, os._exit

        def send(verdict: Verdict) -> None:
            data = verdict.dump()
            while data:
                data = data[write(pipe, data) :]

        self.send = send
        self.exit: Callable[[int], NoReturn] = exit_now

    def run(self, runs: list[Run], folder: Path, hidden: list[Path] | None) -> NoReturn:
        """Imports each program and runs its checks on it; ends the process.

        Unguarded where `hidden` is None.
        """
        if capture := self.config.pluginmanager.unregister(name="capturemanager"):
            capture.stop_global_capturing()
        self.printed = sandbox.silence()
        sys.dont_write_bytecode = True
        gc.disable()  # when something is collected must not decide a check
        if self.config.option.tbstyle == "auto":
            self.config.option.tbstyle = NO_TRACEBACK
        places = [folder / str(number) for number in range(len(runs))]
        if hidden is not None:
            sandbox.guard(folder, hidden)
        if ALARM:
            signal.signal(signal.SIGALRM, self.hang)
        for place, (program, items, until_green) in zip(places, runs, strict=True):
            if place is not places[0]:
                self.send(Verdict("", kind="next"))
                unload()
            place.mkdir()
            os.chdir(place)
            self.program = self.config.stash[PROGRAM] = program
            self.config.stash[FOLDER] = place
            self.config.stash[STORY] = Story(lambda: 0)
            self.check(items, until_green)
        self.exit(0)

    def check(self, items: list[pytest.Item], until_green: bool) -> None:
        """Imports the program and runs the items' checks on it.

        With `until_green` it stops, after the first check, at the first that passes.
        """
        if self.load():
            for number, item in enumerate(items):
                self.grade(item)
                if until_green and number and self.verdict.passed:
                    break

    def begin(self, check: str, limit: float) -> None:
        """Says which check starts, and starts its clock."""
        self.time = limit
        self.send(Verdict(check, kind="started"))
        self.verdict = Verdict(check)
        self.started = time.perf_counter()
        alarm(limit)

    def end(self) -> None:
        """Sends the verdict of the check that runs."""
        alarm(0)
        self.verdict.seconds = time.perf_counter() - self.started
        self.verdict.printed = self.printed.take()
        self.send(self.verdict)

    def load(self) -> bool:
        """Imports the program; False, and a verdict for the topic, where that fails."""
        self.begin("", self.limit)
        try:
            with warnings.catch_warnings():
                if self.program.name != SOLUTION:
                    warnings.simplefilter("ignore")
                app = load(self.program)
            for name in self.program.needs:
                if not hasattr(app, name):
                    raise ImportError(f"app.py defines no {name}: the exercise's app.py has one")
        except BaseException as error:  # noqa: BLE001 - a stranger's code may raise anything
            self.verdict.kind = "load"
            self.verdict.message = load_sentence(error, frames.innermost(error.__traceback__))
            if isinstance(error, NotImplementedError):
                self.note(error)
            self.end()
            return False
        self.config.stash[APP] = app
        alarm(0)
        return True

    def grade(self, item: pytest.Item) -> None:
        """Runs one check and sends its verdict."""
        assert isinstance(item, pytest.Function)
        if self.program.name != SOLUTION:  # warnings are errors in our own code alone
            item.add_marker(pytest.mark.filterwarnings("ignore"))
        self.begin(item.name, seconds(item, self.limit))
        verdict, finished = self.verdict, list[bool]()
        original = item.obj
        item.obj = self.watched(original, finished)
        story = self.config.stash[STORY] = Story(lambda: 0)
        reports = self.config.stash[REPORTS] = []
        try:
            item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
        except BaseException as error:  # noqa: BLE001 - pytest.exit() in a handler ends up here
            verdict.kind, verdict.message = "crash", escape_sentence(error)
        else:
            verdict.passed = finished == [True] and all(report.passed for report in reports)
            call = item.stash.get(CALL, None)
            if not verdict.passed and call and call.excinfo:
                self.explain(item, original, call.excinfo)
            elif not verdict.passed:
                verdict.kind = "crash"
                verdict.message = "the check was kept from running to its end"
        finally:
            item.obj = original
            if CALL in item.stash:
                del item.stash[CALL]
        verdict.events = [(e.kind, e.text, e.line) for e in story.events[-EVENTS:]]
        for crash in story.crashes:
            verdict.where = frames.innermost(crash.__traceback__) or verdict.where
            self.note(crash)
        self.end()

    def watched(self, check: Callable[..., Any], finished: list[bool]) -> Callable[..., Any]:
        """The check, which adds to `finished` once its last line is done."""

        @functools.wraps(check)
        async def run(**fixtures: Any) -> None:
            coroutine = check(**fixtures)
            if inspect.iscoroutine(coroutine):
                self.config.stash[STORY].line = lambda: getattr(coroutine.cr_frame, "f_lineno", 0)
                await coroutine
            finished.append(True)

        return run

    def explain(
        self, item: pytest.Item, check: Callable[..., Any], excinfo: pytest.ExceptionInfo[Any]
    ) -> None:
        """Fills in how the check failed."""
        error, verdict = excinfo.value, self.verdict
        code = inspect.unwrap(check).__code__
        for entry in excinfo.traceback:
            if entry.frame.code.raw is code:
                verdict.line = entry.lineno + 1
                break
        if isinstance(error, AssertionError):
            verdict.kind, verdict.message = "assertion", str(error)
        else:
            verdict.kind, verdict.message = "crash", escape_sentence(error)
            verdict.where = frames.innermost(excinfo.tb)
            self.note(error)
        if self.config.option.tbstyle != NO_TRACEBACK:
            verdict.traceback = str(item.repr_failure(excinfo))

    def note(self, error: BaseException) -> None:
        """Records programming errors that the program itself raised, and what it left undone."""
        for each in frames.chain(error):
            place = frames.raised_at(each)
            if place and isinstance(each, PROGRAMMING_ERRORS):
                self.verdict.errors.append("{} ({}:{})".format(one_line(each), *place))
            elif place and isinstance(each, NotImplementedError):
                self.verdict.unfinished.append(place)

    def hang(self, _signal: int, frame: FrameType | None) -> None:
        """The time is up: says where the program is, and ends the process."""
        self.verdict.kind, self.verdict.where = "hang", frames.now(frame)
        self.verdict.message = f"it still ran after {self.time:g} s"
        if story := self.config.stash.get(STORY, None):
            self.verdict.line = story.line()
            self.verdict.events = [(e.kind, e.text, e.line) for e in story.events[-EVENTS:]]
        self.end()
        self.exit(0)


def load_sentence(error: BaseException, where: str) -> str:
    """One plain sentence about a program that cannot be imported."""
    at = f" ({where})" if where else ""
    if isinstance(error, SyntaxError):
        file = Path(error.filename or "").name
        return f"Python cannot read it: {error.msg}, line {error.lineno} of {file}"
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r}) while it was imported{at}"
    if isinstance(error, ModuleNotFoundError) and error.name == "graded.app":
        return "it has no app.py"
    return f"it could not be imported: {one_line(error)}{at}"


def escape_sentence(error: BaseException) -> str:
    """One plain sentence about an exception that ended a check."""
    if isinstance(error, SystemExit):
        return f"the code called sys.exit({error.code!r})"
    if isinstance(error, pytest.skip.Exception | pytest.xfail.Exception | pytest.exit.Exception):
        return f"the code raised pytest's {type(error).__name__}: a check is not ended from outside"
    return f"raised {one_line(error)}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """In a child, keeps the reports to itself; the wrappers of other plugins stay in force."""
    if REPORTS not in item.config.stash:
        return None
    item.config.stash[REPORTS] += runtestprotocol(item, log=False, nextitem=None)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    """Keeps the first failure of a check, for its explanation."""
    if call.excinfo is not None and CALL not in item.stash:
        item.stash[CALL] = call
    return (yield)
