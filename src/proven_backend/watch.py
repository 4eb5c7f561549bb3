"""`proven watch`: grades a topic each time that one of its files is saved, and shows the verdict.

Three threads (files, keys, answers of the warm process) put what happens into one queue; all else
happens in the one loop that reads it.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import readchar
from rich.console import Console
from rich.text import Text
from watchfiles import watch as file_changes

from proven_backend import show, workspace
from proven_backend.grader import Answer, Grader, GraderError
from proven_backend.hints import LEVELS, hint
from proven_backend.pack import PackError, Rule
from proven_backend.programs import read
from proven_backend.progress import PASSED, Course, State, StateError
from proven_backend.workspace import Workspace

SETTLED, AT_MOST = 15, 150  # ms without another change, and in all, until changes are told
LOOK = 500  # ms between two looks, where nothing is told
PATIENCE = 0.5  # s after which a run is worth a word
KEYS = "h hint   n next   l list   r reset   q quit"


@dataclass
class Run:
    """One grading of a topic: the answers so far, by rule."""

    topic: str
    number: int
    started: float
    answers: dict[str, Answer] = field(default_factory=dict)
    kept: int = 0
    over: bool = False
    told: bool = False


class Watch:
    """The loop of one `proven watch`."""

    def __init__(self, place: Workspace, only: str | None, console: Console) -> None:
        self.place, self.only, self.console = place, only, console
        self.pack = place.pack
        self.events: Queue[tuple[str, Any]] = Queue()
        self.unsaved: list[Answer] = []
        self.state = self.stored()
        upcoming = self.course.next()
        self.topic = only or (upcoming.topic if upcoming else self.pack.topics()[-1])
        self.graded: dict[str, object] = {}
        self.run: Run | None = None
        self.grader: Grader | None = None
        self.below = ""
        self.asked = ""
        self.notes: list[str] = []

    @property
    def course(self) -> Course:
        """Where the learner stands."""
        return Course(self.pack, self.state)

    # What happens

    def loop(self) -> None:
        """Grades, shows and waits, until a key or an interrupt ends it."""
        stop = threading.Event()
        self.warm()
        self._thread(self.files, stop)
        if self.console.is_terminal and sys.stdin.isatty():
            self._thread(self.keys)
        try:
            with _terminal():
                self.grade(self.topic)
                while self.next_event():
                    pass
        except KeyboardInterrupt:
            pass
        finally:
            stop.set()
            if self.grader:
                self.grader.close()

    def next_event(self) -> bool:
        """Waits for one event and acts on it; False when it was the last."""
        busy = self.run and not self.run.told
        try:
            kind, what = self.events.get(timeout=PATIENCE if busy else 1.0)
        except Empty:
            if busy and self.console.is_terminal:
                self.draw()
            return True
        if kind == "answer":
            self.on_answer(what)
        elif kind == "gone" and what[0] is self.grader:
            self.grader = None
            self.run = None
            self.note(f"{what[1]}. The next save starts it again.")
        elif kind == "saved":
            self.on_saved(what)
        elif kind == "pack":
            self.on_pack()
        elif kind == "note":
            self.note(what)
        elif kind == "key":
            return self.on_key(what)
        return True

    def files(self, stop: threading.Event) -> None:
        """Tells of saved files; looks for itself where the file system tells of none."""
        packs = [self.pack.root / name for name in ("checks", "skills", "exercises")]
        stamps = self.stamps()
        try:
            for changes in file_changes(
                self.place.root, *packs, watch_filter=None, stop_event=stop, raise_interrupt=False,
                debounce=AT_MOST, step=SETTLED, rust_timeout=LOOK, yield_on_timeout=True,
            ):  # fmt: skip
                paths = [Path(path) for _, path in changes]
                if any(
                    p.suffix in {".py", ".md"} and p.is_relative_to(q) for p in paths for q in packs
                ):
                    self.events.put(("pack", None))
                stamps = self.look(stamps)
        except OSError:
            while not stop.wait(LOOK / 1000):
                stamps = self.look(stamps)

    def look(self, before: dict[Path, tuple[int, int]]) -> dict[Path, tuple[int, int]]:
        """Tells of topics whose files are not as they were; returns how they are."""
        current = self.stamps()
        changed = {path for path, _ in before.items() ^ current.items()}
        if changed:
            self.events.put(
                ("saved", {path.relative_to(self.place.root).parts[0] for path in changed})
            )
        return current

    def stamps(self) -> dict[Path, tuple[int, int]]:
        """When each file of the topics was written, and its size."""
        found = {}
        for topic in self.pack.topics():
            for file in (self.place.root / topic).rglob("*"):
                with suppress(OSError):
                    stat = file.stat()
                    found[file] = (stat.st_mtime_ns, stat.st_size)
        return found

    def keys(self) -> None:
        """Tells of keys."""
        while True:
            self.events.put(("key", readchar.readchar()))

    def warm(self) -> Grader:
        """The warm process, started where there is none."""
        if self.grader is None:
            self.grader = Grader(self.pack.root, self.place.root, self.console.width)
            self._thread(self.listen, self.grader)
        return self.grader

    def listen(self, grader: Grader) -> None:
        """Tells of answers."""
        try:
            for answer in grader.answers():
                self.events.put(("answer", answer))
        except (GraderError, ValueError) as fault:  # ValueError: it was closed
            self.events.put(("gone", (grader, fault)))

    def _thread(self, target: Any, *arguments: Any) -> None:
        threading.Thread(target=target, args=arguments, daemon=True).start()

    # What is done about it

    def grade(self, topic: str) -> None:
        """Asks for the verdicts of a topic; a run that is not over is given up."""
        self.topic, self.below, self.asked = topic, "", ""
        self.graded[topic] = self.sources(topic)
        try:
            number = self.warm().ask({topic: []})
        except GraderError as fault:
            self.note(str(fault))
            return
        self.run = Run(topic, number, time.monotonic())

    def sources(self, topic: str) -> object:
        """What would be graded now."""
        try:
            return read(self.place.root / topic)
        except PackError as fault:
            return str(fault)

    def on_saved(self, topics: set[str]) -> None:
        """Grades the topic whose files differ from what was graded last."""
        for topic in sorted(topics & set(self.pack.topics())):
            if self.only in {None, topic} and self.sources(topic) != self.graded.get(topic):
                self.grade(topic)

    def on_pack(self) -> None:
        """Starts the warm process again, with the pack's newest checks."""
        if self.grader:
            self.grader.close()
            self.grader = None
        self.pack.forget()
        self.note("The pack changed: graded again with its newest checks.")
        self.grade(self.topic)

    def on_answer(self, answer: Answer) -> None:
        """Keeps a verdict, and shows the run once it is clear what is first to do."""
        run = self.run
        if run is None or answer.number != run.number:
            return
        if answer.rule:
            run.answers[answer.rule] = answer
        run.over = not answer.rule
        if run.over or (not run.told and self.first_failing(run)):
            self.keep(run)
            self.tell(run)

    def first_failing(self, run: Run) -> Answer | None:
        """The first failure in the order of the course, once all before it have passed."""
        for rule in self.pack.rules(run.topic):
            answer = run.answers.get(rule.id)
            if answer is None and run.over:
                continue
            if answer is None or answer.state != PASSED:
                return answer
        return None

    def keep(self, run: Run) -> None:
        """Stores the verdicts that are new, before they are shown."""
        self.unsaved += list(run.answers.values())[run.kept :]
        run.kept = len(run.answers)
        shown = self.first_failing(run)
        try:
            with self.place.progress.change() as self.state:
                for answer in self.unsaved:
                    self.state.take(answer)
                latest = shown or next(reversed(run.answers.values()), None)
                if latest:
                    self.state.took_last(latest)
            self.unsaved = []
        except StateError as fault:
            for answer in self.unsaved:
                self.state.take(answer)
            self.note(f"{fault}. It is tried again with the next verdict.")

    def stored(self) -> State:
        """The stored state; an empty one, and a note, where it cannot be read."""
        try:
            return self.place.progress.read()
        except StateError as fault:
            self.events.put(("note", str(fault)))
            return State()

    def on_key(self, key: str) -> bool:
        """Does what a key stands for; False for the one that quits."""
        if self.asked:
            self.asked, self.below = "", ""
            self.notes.append(self.reset() if key in {"y", "Y"} else "Nothing was reset.")
        elif key in {"q", "Q", "\x04"}:
            return False
        elif key == "h":
            self.below = self.hint()
        elif key == "n":
            with self.console.capture() as told:
                self.console.print(show.what_next(self.place, self.course))
            self.below = told.get().rstrip()
        elif key == "l":
            with self.console.capture() as told:
                self.console.print(show.topics(self.course, self.topic))
            self.below = told.get().rstrip()
        elif key == "r":
            self.asked = f"Reset {self.topic} to its stub? A copy of yours is kept. [y/N]"
            self.below = self.asked
        else:
            return True
        self.draw()
        return True

    def current(self) -> Rule | None:
        """The rule that is to be done in the topic at hand, else in the course."""
        left = self.course.left(self.topic)
        return left[0] if left else self.course.next()

    def hint(self) -> str:
        """The next hint of the rule at hand, recorded."""
        rule = self.current()
        if rule is None:
            return "All rules pass."
        answer = self.run.answers.get(rule.id) if self.run else None
        try:
            with self.place.progress.change() as self.state:
                record = self.state.record(rule.topic, rule.id)
                record.hints = min(record.hints + 1, LEVELS)
        except StateError as fault:
            return str(fault)
        text = hint(self.pack, rule, record.hints, answer.text if answer else "")
        return f"{rule.id} (hint {record.hints} of {LEVELS})\n\n{text}"

    def reset(self) -> str:
        """Resets the topic at hand; says where the learner's files are."""
        try:
            kept = workspace.reset(self.place, self.topic)
        except OSError as fault:
            return f"{self.topic} was not reset: {fault}"
        return (
            f"{self.topic} is its stub again. Yours is kept in {show.relative(kept)}"
            if kept
            else ""
        )

    # What is shown

    def note(self, text: str) -> None:
        """A sentence about something that went wrong, shown now and with the next verdict."""
        if self.console.is_terminal:
            self.notes.append(text)
            self.draw()
        else:
            self.console.print(text, soft_wrap=True)

    def tell(self, run: Run) -> None:
        """Shows what a run came to: in a terminal on a clean screen, else as lines."""
        first = not run.told
        run.told = True
        if self.console.is_terminal:
            self.draw()
            self.notes = []
        elif first or run.over:
            self.lines(run, first=first)

    def lines(self, run: Run, *, first: bool) -> None:
        """A run in plain lines, as it becomes known."""
        failing = self.first_failing(run)
        if first and failing:
            self.console.print(show.said(failing.text), soft_wrap=True)
        if run.over:
            for rule in self.pack.rules(run.topic):
                if rule.id in run.answers:
                    self.console.print(show.verdict(run.answers[rule.id]), soft_wrap=True)
            self.console.print(self.summary(run), show.bar(self.course))

    def summary(self, run: Run) -> Text:
        """How many rules of the topic pass, and how long it took."""
        passed = sum(answer.state == PASSED for answer in run.answers.values())
        took = time.monotonic() - run.started
        return Text(
            f"{run.topic}: {passed} of {len(run.answers)} rules pass ({took:.2f} s)", "bold"
        )

    def draw(self) -> None:
        """The whole screen."""
        self.console.clear()
        for part in self.screen():
            self.console.print(part, soft_wrap=isinstance(part, Text))

    def screen(self) -> Iterator[Any]:
        """The parts of the screen, from top to bottom."""
        run = self.run
        standings = []
        for rule in self.pack.rules(self.topic):
            answer = run.answers.get(rule.id) if run else None
            standings.append(answer.state if answer else self.course.standing(rule))
        head = Text(f"{self.topic}  ", "bold")
        yield head + show.marks(standings)
        yield Text()
        failing = self.first_failing(run) if run else None
        if failing:
            yield show.said(failing.text)
        elif run and run.over:
            yield self.summary(run)
            yield show.what_next(self.place, self.course)
        elif run:
            yield Text(f"grading … {time.monotonic() - run.started:.0f} s", "dim")
        for note in self.notes:
            yield Text(note, "yellow")
        if self.below:
            yield Text()
            yield Text.from_ansi(self.below)
        yield Text()
        yield show.bar(self.course)
        yield Text(KEYS, "dim")


@contextmanager
def _terminal() -> Iterator[None]:
    """Leaves the terminal as it was: the thread that waits for a key cannot."""
    if not sys.stdin.isatty() or sys.platform == "win32":
        yield
        return
    import termios

    before = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
