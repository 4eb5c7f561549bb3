"""The pytest plugin: its options, and how checks are graded, reported and summed up.

Named in pyproject.toml's ``addopts``, so that its options are known before any folder is looked at.
"""

import asyncio
import importlib
import shlex
from collections import Counter, defaultdict
from contextlib import suppress
from itertools import chain
from pathlib import Path

import pytest

from proven_backend import message, postgresql, proof, routing, valkey, warm, workspace
from proven_backend.child import pytest_runtest_makereport, pytest_runtest_protocol  # noqa: F401
from proven_backend.children import Children, Job, cores
from proven_backend.fixtures import (  # noqa: F401 - fixtures
    REDIS_URLS,
    SERVER_URL,
    app,
    client,
    connect,
    db,
    empty,
    launch,
    project,
    redis,
    running,
    serve,
    server,
    start,
    web,
)
from proven_backend.pack import MARKS, TOO, Pack, PackError
from proven_backend.programs import Program, original, read
from proven_backend.verdict import Verdict

LAID_OUT = "name a folder laid out like exercises/"


def pytest_addoption(parser: pytest.Parser) -> None:
    """--target, --prove, --database, --redis, --time-limit."""
    group = parser.getgroup("proven backend")
    group.addoption("--target", metavar="DIR", help="grade a folder laid out like exercises/")
    group.addoption("--prove", action="store_true", help="prove the checks and the pack itself")
    group.addoption("--database", choices=["sqlite", "postgresql"], default="sqlite")
    group.addoption(
        "--redis",
        metavar="SERVER",
        help="with --prove: a real server, and real processes: 'valkey' (from a wheel) or the URL "
        "of an empty one",
    )
    group.addoption(
        "--time-limit", type=float, default=10.0, metavar="SECONDS", help="for one check (10)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuses options that make no sense, in one sentence, before anything is collected."""
    for mark in MARKS.values():
        config.addinivalue_line("markers", f"{mark}(reason): only this database can judge it")
    config.addinivalue_line("markers", f"{TOO}(reason): its wrongs are caught there as well")
    config.addinivalue_line(
        "markers", "time_limit(seconds): what a slow tool may take at the least"
    )
    if config.option.target is not None:
        if config.option.prove:
            raise pytest.UsageError("--prove proves the pack itself: leave --target out")
        if fault := target_fault(config.option.target, config.invocation_params.dir):
            raise pytest.UsageError(f"--target={config.option.target} {fault}: {LAID_OUT}")
    if config.option.redis is not None and not config.option.prove:
        raise pytest.UsageError(
            "--redis starts processes of the code that is run, which no sandbox holds: it proves "
            "the pack itself, so add --prove"
        )
    config.pluginmanager.register(Grading(config), "proven-grading")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves out the checks that start real processes, unless a real server is asked for."""
    real = collection_path.name.startswith("real_") and collection_path.parent.name == "checks"
    return True if real and not config.option.redis else None


def target_fault(target: str, current: Path) -> str:
    """What is wrong with a target; nothing where it can be graded."""
    folder = current / target
    if not target:
        return "is empty"
    if not folder.is_dir():
        return "is a file" if folder.is_file() else "does not exist"
    return "" if any(child.is_dir() for child in folder.iterdir()) else "holds no topic folder"


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """A failed comparison, in the words of this pack."""
    return message.compared(left, op, right)


class Grading:
    """Grades the collected checks in children, and reports them as pytest's own."""

    def __init__(self, config: pytest.Config) -> None:
        self.config, self.pack = config, Pack(config.rootpath)
        self.database: str = config.option.database
        self.target = self._target()
        self.states: dict[str, Counter[str]] = defaultdict(Counter)
        self.next: tuple[str, str] | None = None
        self.left_out: list[tuple[str, str]] = []
        self.claims: list[proof.Claim] = []
        self.nothing: list[str] = []

    def _target(self) -> Path:
        given = self.config.option.target
        if given is not None:
            folder: Path = self.config.invocation_params.dir / given
            return folder.resolve()
        work = workspace.attached(self.pack.root)
        return work if work and work.is_dir() else self.pack.root / "exercises"

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leaves out what this database cannot judge; with --prove, puts claims in its place."""
        checks = [item for item in items if self.is_check(item)]
        others = [item for item in items if not self.is_check(item)]
        kept: list[pytest.Item] = []
        left: list[pytest.Item] = []
        for item in checks:
            mark = item.get_closest_marker(
                MARKS["sqlite" if self.database == "postgresql" else "postgresql"]
            )
            if mark:
                self.left_out.append((rule_of(item), str(mark.args[0] if mark.args else "")))
            (left if mark else kept).append(item)
        if left:
            config.hook.pytest_deselected(items=left)
        course = {topic: number for number, topic in enumerate(self.pack.topics())}
        kept.sort(key=lambda item: course.get(topic_of(item), len(course)))
        if config.option.prove:
            kept = list(proof.claims(session, self.pack, kept, self.database))
        items[:] = [*others, *kept]

    def is_check(self, item: pytest.Item) -> bool:
        """Whether an item is a check of the pack, and not somebody's test."""
        return item.path.parent == self.pack.root / "checks"

    def pytest_report_header(self) -> str:
        """Says what is graded."""
        what = "the pack itself" if self.config.option.prove else self._show(self.target)
        return f"proven-backend: grades {what} on {self.database}"

    def _show(self, path: Path) -> str:
        try:
            return path.relative_to(self.config.invocation_params.dir).as_posix() + "/"
        except ValueError:
            return f"{path}/"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Runs the jobs of all items in children, and reports in the order of collection."""
        if session.testsfailed or self.config.option.collectonly:
            return None
        self.claims = [item for item in session.items if isinstance(item, proof.Claim)]
        jobs = self.jobs(session.items)
        hidden = [self.pack.root / "solutions", self.pack.root / "skills"]
        # One more than cores, as some checks wait; but somebody's own server is shared by all.
        slots = 1 if self.config.option.redis not in {None, "valkey"} else cores() + 1
        if jobs:
            self.prepare(slots, [item for job in jobs.values() for item in job.items])
        children = Children(self.config, hidden, self.config.option.time_limit, slots)
        groups = proof.groups(self.claims) or [[job] for job in dict.fromkeys(jobs.values())]
        ended = {None, *(job for job in jobs.values() if not job.left())}
        pending = session.items[::-1]
        for group in chain([[]], children.run([g for g in groups if any(j.left() for j in g)])):
            doubted = proof.doubted(self.claims, group)
            for job in doubted:
                job.again()
                children.waiting.append([job])
            ended.update(job for job in group if job not in doubted)
            while pending and jobs.get(pending[-1]) in ended:
                item = pending.pop()
                # A child would inherit what is kept for the next item.
                following = pending[-1] if pending and not jobs else None
                self.report(item, jobs.get(item), following)
                if session.shouldfail:
                    raise session.Failed(session.shouldfail)
                if session.shouldstop:
                    raise session.Interrupted(session.shouldstop)
        return True

    def prepare(self, slots: int, items: list[pytest.Item]) -> None:
        """Loads what every child needs once, and starts the servers that are asked for."""
        asyncio.run(warm.run())
        for topic in {topic_of(item) for item in items}:
            with suppress(PackError):
                warm.load(original(self.pack, "exercises", topic).sources)
        if any("redis" in getattr(item, "fixturenames", ()) for item in items):
            importlib.import_module("fakeredis")
        url = self.config.option.redis
        try:
            if self.database == "postgresql":
                self.config.stash[SERVER_URL] = postgresql.start()
            if url == "valkey":
                self.config.stash[REDIS_URLS] = [valkey.start() for _ in range(slots)]
            elif url:
                if not valkey.empty(url):
                    raise RuntimeError(f"--redis={url} is not empty, and checks empty it")
                self.config.stash[REDIS_URLS] = [url]
        except RuntimeError as error:
            raise pytest.UsageError(str(error)) from None

    def jobs(self, items: list[pytest.Item]) -> dict[pytest.Item, Job]:
        """What has to run for each item: its claim's job, or its topic's submission."""
        jobs: dict[pytest.Item, Job] = {}
        by_topic: dict[str, Job] = {}
        for item in items:
            if isinstance(item, proof.Claim) and item.job:
                jobs[item] = item.job
            if isinstance(item, proof.Claim) or not self.is_check(item):
                continue
            topic = topic_of(item)
            if topic not in by_topic:
                by_topic[topic] = self.submission(topic)
            by_topic[topic].items.append(item)
            jobs[item] = by_topic[topic]
        return jobs

    def submission(self, topic: str) -> Job:
        """The job that grades a topic's folder in the target."""
        folder = self.target / topic
        program = Program(topic, "submission", {}, str(folder))
        if not folder.is_dir():
            return Job(program, [], fault=Verdict("", kind="load", message="its folder is missing"))
        try:
            needs = original(self.pack, "exercises", topic).needs
            program = Program(topic, "submission", read(folder), str(folder), needs)
        except PackError as fault:
            return Job(program, [], fault=Verdict("", kind="load", message=str(fault)))
        return Job(program, [])

    def report(self, item: pytest.Item, job: Job | None, following: pytest.Item | None) -> None:
        """Reports one item to pytest, as if it had just run in this process."""
        hook = item.ihook
        if job is None or isinstance(item, proof.Claim):
            hook.pytest_runtest_protocol(item=item, nextitem=following)
            return
        topic, rule = topic_of(item), rule_of(item)
        verdict = job.fault or job.verdicts[item.name]
        state, text = self.judge(topic, rule, job, verdict)
        self.states[topic][state] += 1
        if state != "passed" and self.next is None:
            self.next = (topic, rule)
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for when in ("setup", "call", "teardown"):
            failed = when == "call" and state != "passed"
            hook.pytest_runtest_logreport(
                report=pytest.TestReport(
                    item.nodeid,
                    item.location,
                    dict.fromkeys(item.keywords, 1),
                    "failed" if failed else "passed",
                    text if failed else None,
                    when,
                    duration=verdict.seconds if when == "call" else 0,
                    proven_state=state if when == "call" else "",
                )
            )
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def judge(self, topic: str, rule: str, job: Job, verdict: Verdict) -> tuple[str, str]:
        """The state of a rule and what to say about it."""
        if job.fault:
            first = rule_of(job.items[0]) == rule
            at = f" at {verdict.where}" if verdict.kind == "hang" and verdict.where else ""
            said = f"{topic}: {verdict.message}{at}\nNone of its rules could be graded."
            return ("failed" if first else "not graded"), said
        state = message.state(verdict, rule, job.program)
        if state == "passed":
            return state, ""
        if state not in {"failed", "not started"}:
            return "blocked", f"{topic} / {rule} is blocked by {state}: start that first"
        if self.config.option.tbstyle != "auto" and verdict.traceback:
            return state, verdict.traceback
        try:
            printed = self.pack.rule(topic, rule)
        except PackError as fault:
            return state, f"{verdict.message}\n{fault}"
        return state, message.explain(self.pack, printed, job.program, verdict)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A proof of zero items is a failure, unless a part was asked for by name."""
        if self.config.option.prove and not self.config.option.keyword:
            proven = {claim.job.program.topic for claim in self.claims if claim.job}
            self.nothing = proof.nothing_proven(
                self.claims,
                self.database,
                redis=bool(self.config.option.redis),
                whole=proven >= set(self.pack.topics()),
            )
            if self.nothing:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Words of our own for rules that were not started, blocked or could not be graded."""
        state = getattr(report, "proven_state", "")
        letters = {"not started": "n", "blocked": "b", "not graded": "-"}
        if state in letters:
            return state, letters[state], state.upper()
        return None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Rules by topic, what is left to another database, and what to do next."""
        write = terminalreporter.write_line
        for name, reason in self.left_out:
            write(f"not judged on {self.database}: {name} ({reason})")
        if self.config.option.prove:
            packs = any(claim.kind == "pack test" for claim in self.claims)
            routes = routing.summary(self.pack) if packs else ()
            for line in [*proof.summary(self.claims, self.database), *routes, *self.nothing]:
                write(line)
            return
        if not self.states:
            return
        width = max(map(len, self.states)) + 2
        write(f"{'topic':<{width}}{'passed':>8}{'failed':>8}{'not started':>13}{'blocked':>9}")
        for topic, count in self.states.items():
            failed = count["failed"] + count["not graded"]
            write(
                f"{topic:<{width}}{count['passed']:>8}{failed:>8}"
                f"{count['not started']:>13}{count['blocked']:>9}"
            )
        write("")
        if self.next is None:
            left = len(terminalreporter.stats.get("deselected", []))
            write("All graded rules pass." + (f" {left} were not graded." if left else ""))
        else:
            for line in self.what_next(*self.next):
                write(line)

    def what_next(self, topic: str, rule: str) -> list[str]:
        """Which file to open, and which commands help."""
        job = self.submission(topic)
        place = f"{self._show(self.target)}{topic}/"
        with suppress(PackError):
            place = message.where(self.pack, self.pack.rule(topic, rule), job.program, Verdict(""))
        function = "test_" + rule.replace("-", "_")
        given = self.config.option.target
        target = f" --target={shlex.quote(given)}" if given else ""
        return [
            f"next: {topic} / {rule}",
            f"  open   {place}",
            f"  check  {message.command('pytest')} checks/test_{topic}.py -k {function}{target}",
            f"  help   {message.command('proven')} hint {rule}",
        ]


def topic_of(item: pytest.Item) -> str:
    """The topic of a check, by the name of its file."""
    return item.path.stem.removeprefix("test_").removeprefix("real_")


def rule_of(item: pytest.Item) -> str:
    """The rule of a check, by the name of its function."""
    return item.name.removeprefix("test_").replace("_", "-")
