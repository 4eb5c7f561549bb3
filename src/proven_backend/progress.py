"""A learner's progress: `.proven/state.json` in the workspace, which no accident may damage.

It is written whole to a new file that then takes the place of the old one, under a lock, so that it
is never half there and two commands do not overwrite each other's points.
"""

import json
import os
import tempfile
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
    """All that is stored: records by "topic/rule", topics given up and when, the last verdict."""

    rules: dict[str, Record] = field(default_factory=dict)
    given_up: dict[str, str] = field(default_factory=dict)
    last: dict[str, str] = field(default_factory=dict)

    def record(self, topic: str, rule: str) -> Record:
        """The record of a rule; a new one where there is none."""
        return self.rules.setdefault(f"{topic}/{rule}", Record())

    def take(self, answer: Answer) -> None:
        """Keeps a verdict. That a rule once passed is never forgotten."""
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
        self.damaged: Path | None = None

    def read(self) -> State:
        """The state. A damaged file is kept aside, as `damaged` tells from then on.

        Raises StateError where it cannot be read, or is of a later version.
        """
        try:
            text = self.file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return State()
        except UnicodeDecodeError:
            return self.keep_aside()
        except OSError as error:
            raise StateError(f"{self.file} cannot be read: {error.strerror}") from None
        try:
            stored = json.loads(text)
            if (version := stored.pop("version")) > VERSION:
                raise StateError(
                    f"{self.file} is of version {version}, and this proven knows {VERSION}: "
                    "update the pack"
                )
            stored["rules"] = {name: Record(**each) for name, each in stored["rules"].items()}
            return State(**stored)
        except (ValueError, TypeError, KeyError, AttributeError):
            return self.keep_aside()

    def keep_aside(self) -> State:
        """Renames the file, so that what it holds is not lost; the state is empty then."""
        kept = self.file.with_name(f"state.json.damaged-{now().replace(':', '')}")
        try:
            os.replace(self.file, kept)
        except OSError as error:
            raise StateError(
                f"{self.file} is damaged and cannot be kept aside: {error.strerror}"
            ) from None
        self.damaged = kept
        return State()

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
        except (OSError, TimeoutError) as error:
            said = getattr(error, "strerror", None) or str(error)
            raise StateError(f"progress is not saved in {self.file}: {said}") from None

    def write(self, state: State) -> None:
        """Stores the state in one step."""
        data = json.dumps({"version": VERSION, **asdict(state)}, indent=1).encode()
        descriptor, name = tempfile.mkstemp(prefix="state-", dir=self.file.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.file)
        except BaseException:
            os.unlink(name)
            raise
