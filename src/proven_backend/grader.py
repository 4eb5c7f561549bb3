"""A warm process that grades: it loads libraries and checks once, and forks for each run.

`Grader` starts it and asks it; `python -m proven_backend.grader` is the process. The two speak in
lines of JSON: a request names topics and rules, an answer is one rule's state.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from proven_backend.pack import PackError, check_digests

if TYPE_CHECKING:
    import pytest

    from proven_backend.children import Job
    from proven_backend.plugin import Grading

SUBMISSION, WRONG = "submission", "wrong"
PATIENCE = 3.0  # s that the process has to end by itself


class GraderError(Exception):
    """The warm process cannot grade: a sentence with what it said last."""


@dataclass(frozen=True)
class Request:
    """Topics, each with the rules to grade (none: all of them).

    `program` is "submission" for the target's folder, or "wrong" for the first wrong that the skill
    prints.
    """

    number: int
    topics: dict[str, list[str]]
    program: str = SUBMISSION


@dataclass(frozen=True)
class Answer:
    """The state of one rule, and what to say about it; or, with an empty rule, that all is said.

    `state` is "passed", "failed", "not started", "blocked" or "not graded"; `check` is the digest
    of the check that judged.
    """

    number: int
    topic: str = ""
    rule: str = ""
    state: str = ""
    text: str = ""
    check: str = ""
    seconds: float = 0.0


class Grader:
    """The warm process, for one pack and one target; `close` ends it.

    Messages are at most `width` columns wide.
    """

    def __init__(self, root: Path, target: Path, width: int = 100) -> None:
        self.number = 0
        self.said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this
        # -P: nothing of the folder that the person happens to be in is imported.
        command = [sys.executable, "-P", "-m", "proven_backend.grader", str(root), str(target)]
        self.process = subprocess.Popen(
            command,
            env=os.environ | {"COLUMNS": str(width)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
        )

    def close(self) -> None:
        """Ends the process, whatever it is at."""
        assert self.process.stdin
        assert self.process.stdout
        with suppress(OSError):
            self.process.stdin.close()  # it then ends what it started, and itself
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.said.close()

    def ask(self, topics: dict[str, list[str]], program: str = SUBMISSION) -> int:
        """Sends a request, which ends the one before it; returns its number.

        Raises GraderError where the process is gone.
        """
        self.number += 1
        line = json.dumps(asdict(Request(self.number, topics, program)))
        assert self.process.stdin
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise self.gone() from None
        return self.number

    def answers(self) -> Iterator[Answer]:
        """All answers, as they come. Raises GraderError when the process is gone."""
        assert self.process.stdout
        for line in self.process.stdout:
            yield Answer(**json.loads(line))
        raise self.gone()

    def grade(self, topics: dict[str, list[str]], program: str = SUBMISSION) -> Iterator[Answer]:
        """The answers to one request. Raises GraderError when the process is gone."""
        number = self.ask(topics, program)
        for answer in self.answers():
            if answer.number == number and not answer.rule:
                return
            if answer.number == number:
                yield answer

    def gone(self) -> GraderError:
        """How the process ended: by a signal, or with what it said last."""
        if (status := self.process.wait()) < 0:
            return GraderError(f"the grading process was ended by {signal.Signals(-status).name}")
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").splitlines()
        last = [line for line in lines if line.strip() and not line.startswith("=")]
        said = last[-1] if last else f"exit status {status}"
        return GraderError(f"the grading process ended: {said}")


@dataclass(eq=False)
class _Server:
    """The plugin that takes the place of pytest's own loop and answers requests until they end."""

    answers: int
    fault: Exception | None = None
    pending: bytes = b""
    known: dict[str, "list[pytest.Item]"] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def pytest_cmdline_main(self, config: "pytest.Config") -> Any:
        """Serves, in a session of pytest."""
        from _pytest.main import wrap_session

        return wrap_session(config, self.serve)

    def serve(self, config: "pytest.Config", session: "pytest.Session") -> int:
        """Answers each request; a new one ends the run of the one before it."""
        grading: Grading = config.pluginmanager.get_plugin("proven-grading")  # type: ignore[assignment]
        try:
            while line := self.line():
                request = Request(**json.loads(line))
                self.answer(request, session, grading)
        except (PackError, OSError) as fault:
            self.fault = fault
        return 0

    def line(self) -> bytes:
        """The newest request, or nothing when the one who asks is gone."""
        while b"\n" not in self.pending:
            data = os.read(0, 1 << 16)
            if not data:
                return b""
            self.pending += data
        *_, line, self.pending = self.pending.split(b"\n")
        return line

    def answer(self, request: Request, session: "pytest.Session", grading: "Grading") -> None:
        """Grades what is asked for, and sends each state as it is known."""
        from proven_backend.children import FORKS, Children, cores

        jobs: list[Job] = []
        first: set[str] = set()
        for topic, rules in request.topics.items():
            items = [i for i in self.items(topic, session, grading) if _chosen(i, rules)]
            first |= {item.name for item in items[:1]}
            # One topic is dealt to all cores, as its verdict is waited for.
            shares = cores() if len(request.topics) == 1 else 1
            if request.program == WRONG:
                shares = len(items)  # each rule has a program of its own
            for share in range(min(shares, len(items))):
                job = _job(grading, topic, request.program, items[share])
                job.items += items[share::shares]
                jobs.append(job)
        told: dict[Job, int] = {}

        def heard(job: "Job") -> None:
            names = [item.name for item in job.items] if job.fault else list(job.verdicts)
            for name in names[told.get(job, 0) :]:
                self.tell(request.number, grading, job, name, first=name in first)
            told[job] = len(names)

        for job in jobs:
            if job.fault:
                heard(job)
        groups = [[job] for job in jobs if job.left()]
        hidden = [grading.pack.root / "solutions", grading.pack.root / "skills"]
        children = Children(
            session.config,
            hidden,
            session.config.option.time_limit,
            cores(),
            heard,
            stop=0 if FORKS else None,
        )
        for _ in children.run(groups):
            pass
        if not children.stopped:
            self.send(Answer(request.number))

    def items(
        self, topic: str, session: "pytest.Session", grading: "Grading"
    ) -> "list[pytest.Item]":
        """The checks of a topic; collected, and what they need loaded, when first asked for."""
        if topic not in self.known:
            file = grading.pack.checks(topic)
            items = list(session.perform_collect([str(file)]))
            if not items:
                raise PackError(f"{file} has no check that can be read: mend it, or pull again")
            grading.prepare(1, items)
            self.known[topic] = items
            self.digests |= check_digests(file)
        return self.known[topic]

    def tell(self, number: int, grading: "Grading", job: "Job", name: str, *, first: bool) -> None:
        """Sends the state of one rule; a topic that cannot be imported fails with its first."""
        from proven_backend.plugin import rule_of

        item = next(item for item in job.items if item.name == name)
        topic, rule = job.program.topic, rule_of(item)
        verdict = job.fault or job.verdicts[name]
        state, text = grading.judge(topic, rule, job, verdict)
        if job.fault:
            state = "failed" if first else "not graded"
        self.send(Answer(number, topic, rule, state, text, self.digests[name], verdict.seconds))

    def send(self, answer: Answer) -> None:
        """Writes one line; a reader that is gone ends this process."""
        data = json.dumps(asdict(answer)).encode() + b"\n"
        while data:
            data = data[os.write(self.answers, data) :]


def _chosen(item: "pytest.Item", rules: list[str]) -> bool:
    from proven_backend.plugin import rule_of

    return not rules or rule_of(item) in rules


def _job(grading: "Grading", topic: str, program: str, item: "pytest.Item") -> "Job":
    """The job for a topic's submission, or for the first wrong of the item's rule."""
    from proven_backend.children import Job
    from proven_backend.plugin import rule_of
    from proven_backend.programs import original, swaps

    if program == SUBMISSION:
        return grading.submission(topic)
    rule = grading.pack.rule(topic, rule_of(item))
    wrongs = swaps(original(grading.pack, "solutions", topic), rule, "wrong")
    return Job(next(made for snippet, made in wrongs if snippet.server in {None, "SQLite"}), [])


def main(root: str, target: str) -> int:
    """Serves requests on the standard input until it ends; returns pytest's exit status."""
    import pytest

    answers = os.dup(1)
    os.dup2(2, 1)
    if hasattr(os, "register_at_fork"):
        # Code under grade never has it.
        os.register_at_fork(after_in_child=lambda: os.close(answers))
    server = _Server(answers)
    options = ["--noconftest", "--capture=no", "-p", "no:cacheprovider", f"--target={target}"]
    status = pytest.main(["-c", f"{root}/pyproject.toml", *options], plugins=[server])
    if server.fault:
        print(server.fault, file=sys.stderr)  # as the last line: that is what is told
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
