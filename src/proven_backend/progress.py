"""A learner's progress: `.proven/state.json` in the workspace, which no accident may damage.

It is written whole to a new file that then takes the place of the old one, under a lock, so that it
is never half there and two commands do not overwrite each other's points.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from proven_backend.grader import Answer
from proven_backend.pack import Pack, Rule, check_digests

VERSION = 1
PASSED, AGAIN = "passed", "verify again"
STATES = ("", PASSED, "failed", "not started", "blocked", "not graded")


class StateError(Exception):
    """The state cannot be read or written: a sentence with the file, the cause and what to do."""


@dataclass
class Record:
    """What is known of one rule: its last state, when it first passed, the hints that were shown.

    `check` is the digest of the check that gave the state. Times are UTC, in ISO 8601.
    """

    state: str = ""
    at: str = ""
    first_passed: str = ""
    check: str = ""
    hints: int = 0


@dataclass
class State:
    """All that is stored: records by "topic/rule", topics given up and when, the last verdict.

    `damaged` is where a damaged state is kept, until all topics are graded in its place.
    """

    rules: dict[str, Record] = field(default_factory=dict)
    given_up: dict[str, str] = field(default_factory=dict)
    last: dict[str, str] = field(default_factory=dict)
    damaged: str = ""

    def record(self, topic: str, rule: str) -> Record:
        """The record of a rule; a new one where there is none."""
        return self.rules.setdefault(f"{topic}/{rule}", Record())

    def take(self, *answers: Answer) -> None:
        """Keeps verdicts. That a rule once passed is never forgotten."""
        for answer in answers:
            record = self.record(answer.topic, answer.rule)
            record.state, record.at, record.check = answer.state, now(), answer.check
            if answer.state == PASSED:
                record.first_passed = record.first_passed or record.at

    def took_last(self, answer: Answer) -> None:
        """Keeps the verdict that was shown last."""
        name = f"{answer.topic}/{answer.rule}"
        self.last = {"rule": name, "state": answer.state, "text": answer.text, "at": now()}


@dataclass(frozen=True)
class Course:
    """The pack's rules in their order, and where a learner stands in them."""

    pack: Pack
    state: State

    def standing(self, rule: Rule) -> str:
        """ "passed", "verify again" (passed before its check changed), another state, or ""."""
        record = self.state.rules.get(f"{rule.topic}/{rule.id}", Record())
        if record.state == PASSED:
            current = check_digests(self.pack.checks(rule.topic)).get(rule.check)
            return PASSED if record.check == current else AGAIN
        return record.state

    def once_passed(self, rule: Rule) -> bool:
        """Whether the rule passed at some time, which counts as done."""
        return bool(self.state.rules.get(f"{rule.topic}/{rule.id}", Record()).first_passed)

    def left(self, topic: str) -> list[Rule]:
        """The rules of a topic that do not pass now, in order."""
        return [rule for rule in self.pack.rules(topic) if self.standing(rule) != PASSED]

    def next(self) -> Rule | None:
        """The first rule that does not pass: of the last verdict's topic, else of the course."""
        topics = self.pack.topics()
        latest = self.state.last.get("rule", "").partition("/")[0]
        for topic in [*(t for t in topics if t == latest), *topics]:
            if left := self.left(topic):
                return left[0]
        return None


def now() -> str:
    """The time, in UTC, as ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Progress:
    """The state file of a workspace's folder `.proven`."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "state.json"
        self.lock = FileLock(folder / "state.lock", timeout=10)

    def read(self) -> State:
        """The state; an empty one, marked as damaged, where the file is, of which a copy is kept.

        Raises StateError where it cannot be read, or is of a later version.
        """
        try:
            data = self.file.read_bytes()
        except FileNotFoundError:
            return State()
        except OSError as error:
            raise StateError(f"{self.file} cannot be read: {error.strerror}") from None
        try:
            return _parsed(data)
        except _LaterError as later:
            raise StateError(
                f"{self.file} is of version {later}, and this proven knows {VERSION}: "
                "update the pack"
            ) from None
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return State(damaged=str(self.keep_aside(data)))

    def keep_aside(self, data: bytes) -> Path:
        """Copies a damaged file; the same one is copied once. Raises StateError where it cannot."""
        kept = self.file.with_name(f"state.json.damaged-{hashlib.sha256(data).hexdigest()[:12]}")
        try:
            if not kept.is_file() or kept.read_bytes() != data:
                kept.write_bytes(data)
        except OSError as error:
            raise StateError(
                f"{self.file} is damaged, and stays as it is: it cannot be copied to {kept.name}: "
                f"{error.strerror}"
            ) from None
        return kept

    @contextmanager
    def change(self) -> Iterator[State]:
        """The state as it is now, stored again when the block ends; no other command is in between.

        Raises StateError where that fails: what was stored before is still there.
        """
        try:
            with self.lock:
                state = self.read()
                yield state
                self.write(state)
        except OSError as error:
            said = error.strerror or str(error)
            raise StateError(f"progress is not saved in {self.file}: {said}") from None

    def write(self, state: State) -> None:
        """Stores the state in one step. The lock is held: the file that is made has one writer."""
        data = json.dumps({"version": VERSION, **asdict(state)}, indent=1).encode()
        made = self.file.with_name("state.json.making")
        with made.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(made, self.file)


class _LaterError(Exception):
    """A state of a later version, which is its text."""


def _parsed(data: bytes) -> State:
    """The state in a file. Raises one of several exceptions where the data is not what we write."""
    stored = json.loads(data)
    if (version := stored.pop("version")) > VERSION:
        raise _LaterError(version)
    rules = {name: Record(**record) for name, record in stored.pop("rules").items()}
    state = State(rules, **stored)
    kinds = {name: type(value) for name, value in vars(Record()).items()}
    for record in rules.values():
        if {name: type(value) for name, value in vars(record).items()} != kinds:
            raise TypeError
        if record.state not in STATES:
            raise ValueError
    for text in (*state.given_up.values(), *state.last.values(), state.damaged):
        if not isinstance(text, str):
            raise TypeError
    if last := state.last:
        last["rule"], last["text"], STATES.index(last["state"]), datetime.fromisoformat(last["at"])
    return state
