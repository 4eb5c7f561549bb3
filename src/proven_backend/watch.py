"""`proven watch`: grades a topic each time that one of its files is saved, and shows the verdict.

Three threads (files, keys, answers of the warm process) put what happens into one queue; all else
happens in the one loop that reads it.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from rich.console import Console
from rich.text import Text

from proven_backend import show, terminal, workspace
from proven_backend.changes import Changes
from proven_backend.grader import Answer, Grader, GraderError
from proven_backend.hints import LEVELS, hint
from proven_backend.pack import PackError, Rule
from proven_backend.programs import read
from proven_backend.progress import PASSED, Course, StateError
from proven_backend.workspace import Workspace

PATIENCE = 0.5  # s after which a run is worth a word
KEYS = "h hint   n next   l list   r reset   q quit"


@dataclass
class Run:
    """One grading of a topic: the answers so far, by rule."""

    topic: str
    number: int
    started: float
    answers: dict[str, Answer] = field(default_factory=dict)
    over: bool = False
    told: bool = False


class Watch:
    """The loop of one `proven watch`."""

    def __init__(self, place: Workspace, only: str | None, console: Console) -> None:
        self.place, self.only, self.console = place, only, console
        self.live = console.is_terminal and not console.is_dumb_terminal
        self.pack = place.pack
        self.parts = [self.pack.root / name for name in ("checks", "skills", "exercises")]
        self.events: Queue[tuple[str, Any]] = Queue()
        self.unsaved: list[Answer] = []
        self.state = place.progress.read()
        upcoming = self.course.next()
        self.topic = only or (upcoming.topic if upcoming else self.pack.topics()[-1])
        self.waiting: list[str] = []
        self.graded: dict[str, object] = {}
        self.run: Run | None = None
        self.grader: Grader | None = None
        self.below = ""
        self.asked = False
        self.notes: list[str] = []
        self.keys_shown = ""

    @property
    def course(self) -> Course:
        """Where the learner stands."""
        return Course(self.pack, self.state)

    # What happens

    def loop(self) -> None:
        """Grades, shows and waits, until a key, an interrupt or SIGTERM ends it."""
        stop = threading.Event()
        mine = [self.place.root / topic for topic in self.pack.topics()]
        changes = Changes([*mine, *self.parts])  # looked at before anything is graded
        try:
            with terminal.single_keys() as has_keys:
                self.keys_shown = KEYS if has_keys else ""
                self.grade(self.topic)
                self._thread(self.files, changes, stop)
                if has_keys:
                    self._thread(self.keys)
                while self.next_event():
                    pass
        except KeyboardInterrupt:
            pass
        finally:
            stop.set()
            self.cool()

    def next_event(self) -> bool:
        """Waits for one event and acts on it; False when it was the last."""
        busy = self.run and not self.run.told
        try:
            kind, what = self.events.get(timeout=PATIENCE if busy else 1.0)
        except Empty:
            kind, what = "nothing", None
        try:
            if kind == "key":
                return self.on_key(what)
            if kind == "answer":
                self.on_answer(what)
            elif kind == "gone" and what[0] is self.grader:
                self.on_gone(what[1])
            elif kind == "files":
                self.on_files(what)
            elif busy and self.live:
                self.draw()
        except PackError as fault:  # the pack is at fault, for a moment: a pull may be half-way
            self.console.print(Text(str(fault), "yellow"), soft_wrap=True)
        return True

    def files(self, changes: Changes, stop: threading.Event) -> None:
        """Tells of files that changed."""
        for paths in changes.follow(stop):
            self.events.put(("files", paths))

    def keys(self) -> None:
        """Tells of keys, but not of those that send several characters, as arrows do."""
        while keys := terminal.pressed():
            for key in keys if not keys.startswith("\x1b") else ():
                self.events.put(("key", key))

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

    def warm(self) -> Grader:
        """The warm process, started where there is none."""
        if self.grader is None:
            self.grader = Grader(self.pack.root, self.place.root, self.console.width)
            self._thread(self.listen, self.grader)
        return self.grader

    def cool(self) -> None:
        """Ends the warm process, if there is one; its run is given up."""
        self.give_up()
        if self.grader:
            self.grader.close()
            self.grader = None

    def grade(self, topic: str) -> None:
        """Asks for the verdicts of a topic; a run that is not over is given up."""
        self.give_up()
        self.topic, self.below, self.asked = topic, "", False
        sources = self.sources(topic)
        try:
            number = self.warm().ask({topic: []})
        except (GraderError, OSError) as fault:
            self.on_gone(fault)
            return
        self.graded[topic] = sources
        self.run = Run(topic, number, time.monotonic())

    def give_up(self) -> None:
        """Forgets a run that is not over, so that any save of its topic is graded."""
        if self.run and not self.run.over:
            del self.graded[self.run.topic]
            self.run = None

    def sources(self, topic: str) -> object:
        """What would be graded now."""
        try:
            return read(self.place.root / topic)
        except PackError as fault:
            return str(fault)

    def on_files(self, paths: set[Path]) -> None:
        """Grades the topics whose sources changed, and the one at hand anew with a changed pack."""
        saved = [
            topic
            for topic in self.pack.topics()
            if self.only in {None, topic}
            and any(path.is_relative_to(self.place.root / topic) for path in paths)
            and self.sources(topic) != self.graded.get(topic)
        ]
        given_up = [self.run.topic] if self.run and not self.run.over else []
        if any(
            path.suffix in {".py", ".md"} and path.is_relative_to(part)
            for path in paths
            for part in self.parts
        ):
            self.cool()
            self.pack.forget()
            self.graded.clear()
            self.note("The pack changed: graded again with its newest checks.")
            saved.append(self.topic)
        if saved:
            self.waiting = list(dict.fromkeys([*saved, *self.waiting, *given_up]))
            self.grade(self.waiting.pop(0))

    def on_gone(self, fault: Exception) -> None:
        """Says why the warm process is gone."""
        self.cool()
        self.note(f"{fault}. The next save starts it again.")

    def on_answer(self, answer: Answer) -> None:
        """Shows a run once it is clear what is first to do, and when it is over."""
        run = self.run
        if run is None or answer.number != run.number:
            return
        if answer.rule:
            run.answers[answer.rule] = answer
            self.unsaved.append(answer)
        run.over = not answer.rule
        if run.over or (not run.told and self.first_failing(run)):
            self.tell(run)
        if run.over and self.waiting:
            self.grade(self.waiting.pop(0))

    def first_failing(self, run: Run) -> Answer | None:
        """The first failure in the order of the course, once all before it have passed."""
        for rule in self.pack.rules(run.topic):
            answer = run.answers.get(rule.id)
            if answer is None and run.over:
                continue
            if answer is None or answer.state != PASSED:
                return answer
        return None

    def keep(self) -> None:
        """Stores the verdicts that are new, before they are shown."""
        if not self.unsaved:
            return
        latest = (self.run and self.first_failing(self.run)) or self.unsaved[-1]
        try:
            with self.place.progress.change() as state:
                if state.damaged != self.state.damaged:  # what was damaged is still known here
                    vars(state).update(vars(self.state) | {"damaged": state.damaged})
                    self.say(f"The progress was damaged. It is kept in {state.damaged}.")
                state.take(*self.unsaved)
                state.took_last(latest)
            self.state = state
            self.unsaved = []
        except StateError as fault:
            self.state.take(*self.unsaved)
            self.say(f"{fault}. It is tried again with the next verdict.")

    def on_key(self, key: str) -> bool:
        """Does what a key stands for; False for the one that quits."""
        if self.asked:
            self.asked, self.below = False, ""
            self.say(self.reset() if key in {"y", "Y"} else "Nothing was reset.")
        elif key in {"q", "Q", "\x04"}:
            return False
        elif key == "h":
            self.below = self.hint()
        elif key == "n":
            self.below = self.drawn(show.what_next(self.place, self.course))
        elif key == "l":
            self.below = self.drawn(show.topics(self.course, self.topic))
        elif key == "r":
            self.asked = True
            self.below = f"Reset {self.topic} to its stub? A copy of yours is kept. [y/N]"
        else:
            return True
        self.draw()
        return True

    def drawn(self, part: Any) -> str:
        """A part of the screen as text."""
        with self.console.capture() as told:
            self.console.print(part)
        return told.get().rstrip()

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
            return f"{fault}. A hint is shown once it can be recorded."
        text = hint(self.pack, rule, record.hints, answer.text if answer else "")
        return f"{rule.id} (hint {record.hints} of {LEVELS})\n\n{text}"

    def reset(self) -> str:
        """Resets the topic at hand; says where the learner's files are."""
        try:
            kept = workspace.reset(self.place, self.topic)
        except OSError as fault:
            return f"{self.topic} was not reset: {fault}"
        yours = f" Yours is kept in {show.relative(kept)}" if kept else ""
        return f"{self.topic} is its stub again.{yours}"

    # What is shown

    def note(self, text: str) -> None:
        """Shows a sentence now, and with the next verdict."""
        self.say(text)
        if self.live:
            self.draw()

    def say(self, text: str) -> None:
        """A sentence about something that happened: on the next screen, or as a line."""
        if not self.live:
            self.console.print(Text(text), soft_wrap=True)
        elif text not in self.notes:
            self.notes.append(text)

    def tell(self, run: Run) -> None:
        """Shows what a run came to: in a terminal on a clean screen, else as lines."""
        first = not run.told
        run.told = True
        if self.live:
            self.draw()
            self.notes = []
        else:
            self.keep()
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
        """The whole screen; what it shows is stored before."""
        self.keep()
        with self.console:  # written at once
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
        yield Text(self.keys_shown, "dim")
