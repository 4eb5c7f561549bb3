"""The proof: claims about every program that the pack can make, judged by what its checks say."""

import importlib.metadata
import platform
import sqlite3
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from proven_backend import programs
from proven_backend.children import Group, Job
from proven_backend.judges import PACK_TESTS
from proven_backend.message import state
from proven_backend.pack import NAMES, TOO, Pack, PackError, Rule
from proven_backend.verdict import Verdict

Judge = Callable[[Job], list[str]]
SLOWEST = 10


class Claim(pytest.Item):
    """One claim of the proof: holds where `judge` finds no fault in what the job came to.

    The jobs of claims that share `company` run in one child, `control` after them.
    """

    kind: str
    job: Job | None
    judge: Callable[[], list[str]]
    company: str
    control: Job | None
    held = False

    def runtest(self) -> None:
        """Raises PackError with a sentence for each fault."""
        if faults := self.judge():
            raise PackError("\n".join(faults))
        self.held = True

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        """The faults alone; a traceback only of our own errors."""
        if isinstance(excinfo.value, PackError):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo, style="short"))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the claim stands, for reports."""
        return self.path, None, self.name


def claims(
    session: pytest.Session, pack: Pack, checks: list[pytest.Item], database: str
) -> Iterator[Claim]:
    """All claims about the topics whose checks were collected, and about the pack as a whole."""
    by_file: dict[Path, list[pytest.Item]] = {}
    for check in checks:
        by_file.setdefault(check.path, []).append(check)
    if database == "sqlite":
        for name, test in PACK_TESTS.items():
            yield _claim(session, f"pack: {name}", "pack test", partial(list_of, test, pack))
    for file, items in by_file.items():
        parent = items[0].parent
        assert parent is not None
        real = file.stem.startswith("real_")
        topic = file.stem.removeprefix("test_").removeprefix("real_")
        try:
            about = _real_claims if real else _topic_claims
            made = list(about(pack, topic, items, database))
        except (PackError, SyntaxError, OSError) as error:
            said = [str(error)]
            yield _claim(parent, f"{topic}: can be read", "pack test", partial(list, said))
            continue
        controls: dict[str, Job] = {}
        for name, kind, job, judge in made:
            claim = _claim(parent, name, kind, partial(judge, job))
            own = job.items[0]
            sharing = "rights" if judge is all_pass else "path"
            if job.real:
                sharing = name
            elif job.until_green:
                sharing = own.name
            claim.job, claim.company = job, f"{file.name} {sharing}"
            if job.until_green:
                solution = job.until_green.program
                claim.control = controls.setdefault(own.name, Job(solution, [own]))
            yield claim


def list_of(test: Callable[[Pack], Iterator[str]], pack: Pack) -> list[str]:
    """The faults that a pack test finds, a PackError raised on the way included."""
    try:
        return list(test(pack))
    except PackError as fault:
        return [str(fault)]


def _claim(parent: pytest.Collector, name: str, kind: str, judge: Callable[[], list[str]]) -> Claim:
    claim: Claim = Claim.from_parent(parent, name=name)
    claim.kind, claim.judge = kind, judge
    claim.job, claim.company, claim.control = None, "", None
    return claim


def groups(claims: list[Claim]) -> list[Group]:
    """The jobs of the claims, those together that share a child."""
    made: dict[str, Group] = defaultdict(list)
    for claim in claims:
        if claim.job:
            made[claim.company].append(claim.job)
    for claim in claims:
        if claim.control:
            made[claim.company].append(claim.control)
    return [list(dict.fromkeys(group)) for group in made.values()]


def doubted(claims: list[Claim], group: Group) -> list[Job]:
    """What must run once more, each job alone, before it is judged: what does not hold in company,
    or all, where the control fails: then one of them left something behind."""
    judges = {claim.job: claim.judge for claim in claims if claim.job in group}
    if len(group) == 1:
        return []
    spoiled = any(all_pass(job) for job in group if job not in judges)
    return [job for job in group if job in judges and (spoiled or judges[job]())]


def _topic_claims(
    pack: Pack, topic: str, items: list[pytest.Item], database: str
) -> Iterator[tuple[str, str, Job, Judge]]:
    solution = programs.original(pack, "solutions", topic)
    stub = programs.original(pack, "exercises", topic)
    by_name = {item.name: item for item in items}
    rules = [rule for rule in pack.rules(topic) if rule.check in by_name]

    solved = Job(solution, items)
    yield "solution", "solution", solved, all_pass
    for rule in rules:
        own = by_name[rule.check]
        others = [item for item in items if item is not own]
        for snippet, program in programs.swaps(solution, rule, "wrong"):
            redis = "redis" in getattr(own, "fixturenames", ())
            judged = database == "sqlite" or redis or any(own.iter_markers(TOO))
            if snippet.server == NAMES[database] or (not snippet.server and judged):
                job = Job(program, [own, *others], until_green=solved)
                yield program.name, "counter-example", job, partial(caught, rule, snippet.where)
        for snippet, program in programs.swaps(solution, rule, "also right"):
            if snippet.server == NAMES[database] or (not snippet.server and database == "sqlite"):
                yield program.name, "also right", Job(program, items), all_pass
    if database == "postgresql":
        return
    yield "stub", "stub", Job(stub, items), partial(each_fails_for_its_rule, rules)
    for result in ("None", "[]"):
        yield (
            f"hollow {result}",
            "hollow app",
            Job(programs.hollow(solution, result), items),
            all_fail,
        )
    ids = [rule.id for rule in pack.rules(topic)]
    learned = [rule.check for rule in rules]
    for number, rule in enumerate(rules, 1):
        program = programs.step(stub, solution, ids[: ids.index(rule.id) + 1])
        name = f"step {number}: {rule.id}"
        walked = [by_name[each] for each in learned[: number + 1]]
        if program.sources == solution.sources:
            yield name, "step", solved, all_pass
        else:
            yield name, "step", Job(program, walked), partial(walks, number)


def _real_claims(
    pack: Pack, topic: str, items: list[pytest.Item], database: str
) -> Iterator[tuple[str, str, Job, Judge]]:
    """With real processes: the solution passes, and what is wrong on Valkey is caught."""
    solution = programs.original(pack, "solutions", topic)
    by_name = {item.name: item for item in items}
    for rule in pack.rules(topic):
        if own := by_name.get(rule.check):
            yield f"{rule.id} solution", REAL, Job(solution, [own], real=True), all_pass
            for snippet, program in programs.swaps(solution, rule, "wrong"):
                if snippet.real:
                    job = Job(program, [own], real=True)
                    yield f"{program.name}", REAL, job, partial(caught, rule, snippet.where)


def _verdicts(job: Job) -> list[tuple[str, Verdict]]:
    return [(item.name, job.verdicts[item.name]) for item in job.items if item.name in job.verdicts]


def _said(verdict: Verdict) -> str:
    first = verdict.message.splitlines()[0] if verdict.message else "no word"
    return f"{verdict.kind}: {first}"


def _not_loaded(job: Job) -> list[str]:
    assert job.fault is not None
    return [f"{job.program.name} cannot be loaded: {job.fault.message}"]


def all_pass(job: Job) -> list[str]:
    """Every check passes."""
    if job.fault:
        return _not_loaded(job)
    return [f"{name} fails: {_said(v)}" for name, v in _verdicts(job) if not v.passed]


def all_fail(job: Job) -> list[str]:
    """Every check fails on an app that does nothing."""
    if job.fault:
        return _not_loaded(job)
    return [
        f"{name} passes on {job.program.name}: assert the good path too"
        for name, v in _verdicts(job)
        if v.passed
    ]


def each_fails_for_its_rule(rules: list[Rule], job: Job) -> list[str]:
    """Every check fails on the stub by assertion or as not started, without an error of ours."""
    if job.fault:
        return _not_loaded(job)
    faults = []
    for rule in rules:
        verdict = job.verdicts[rule.check]
        found = state(verdict, rule.id, job.program)
        if found == "passed":
            faults.append(f"{rule.check} passes on the stub: plant the fault that it looks for")
        elif found not in {"failed", "not started"}:
            faults.append(
                f"{rule.check} is blocked by {found} on the stub: plant a fault there instead"
            )
        elif found == "failed" and (verdict.kind != "assertion" or verdict.errors):
            why = verdict.errors[0] if verdict.errors else _said(verdict)
            faults.append(f"{rule.check} fails on the stub, but not for its rule: {why}")
    return faults


def caught(rule: Rule, where: str, job: Job) -> list[str]:
    """The rule's check fails by assertion, for no other reason, and another check stays green."""
    if job.fault:
        return _not_loaded(job)
    verdict, *others = [verdict for _, verdict in _verdicts(job)]
    if verdict.passed:
        return [f"{where}: this wrong passes {rule.check}: the check does not see it"]
    if verdict.errors:
        return [f"{where}: this wrong has an error of its own: {verdict.errors[0]}"]
    if verdict.kind != "assertion":
        return [f"{where}: {rule.check} fails, but not by assertion: {_said(verdict)}"]
    if others and not any(other.passed for other in others):
        return [f"{where}: this wrong breaks every check of the topic: make it break one rule"]
    return []


def walks(number: int, job: Job) -> list[str]:
    """With `number` rules solved their checks pass, and the next one fails."""
    if job.fault:
        return _not_loaded(job)
    verdicts = _verdicts(job)
    faults = [
        f"after step {number} {name} should pass, but fails: {_said(v)}"
        for name, v in verdicts[:number]
        if not v.passed
    ]
    faults += [
        f"after step {number} {name} already passes: nothing is left to learn there"
        for name, v in verdicts[number:]
        if v.passed
    ]
    return faults


REAL = "real"
COUNTED = {
    "solution": "topics",
    "counter-example": "counter-examples caught",
    "also right": "also-rights passed",
    "step": "steps walked",
    "pack test": "pack tests",
    REAL: "programs judged with real processes",
}


def nothing_proven(claims: list[Claim], database: str, *, redis: bool, whole: bool) -> list[str]:
    """A sentence for each kind of claim that a proof lacks.

    A topic may have nothing to prove on PostgreSQL or with real processes; the `whole` pack has.
    """
    made = {claim.kind for claim in claims}
    wanted = COUNTED.keys() - {REAL} if database == "sqlite" else {"solution"}
    if whole:
        wanted |= {"counter-example"} | ({REAL} if redis else set())
    return [f"nothing was proven: 0 {COUNTED[kind]}" for kind in COUNTED if kind in wanted - made]


def versions(database: str) -> Iterator[str]:
    """What the proof ran on: Python, the libraries that this package asks for, and the servers."""
    yield f"Python {platform.python_version()}"
    extras = {"sqlite": [""], "postgresql": ["", "postgresql", "valkey"]}[database]
    for wanted in map(Requirement, importlib.metadata.requires("proven-backend") or []):
        if not wanted.marker or any(wanted.marker.evaluate({"extra": extra}) for extra in extras):
            yield f"{wanted.name} {importlib.metadata.version(wanted.name)}"
    if database == "sqlite":
        yield f"SQLite {sqlite3.sqlite_version}"


def summary(claims: list[Claim], database: str) -> Iterator[str]:
    """What was proven, counted, and how long one check run took."""
    jobs = [claim.job for claim in claims if claim.job]
    rules = {name for job in jobs for name in job.verdicts}
    made = Counter(claim.kind for claim in claims)
    held = Counter(claim.kind for claim in claims if claim.held)
    counted = [
        f"{held[kind] if held[kind] == made[kind] else f'{held[kind]} of {made[kind]}'} {words}"
        for kind, words in COUNTED.items()
        if made[kind]
    ]
    counted.insert(1, f"{len(rules)} rules")
    yield f"proven on {NAMES[database]}: {', '.join(counted)}"
    yield f"versions: {', '.join(versions(database))}"
    if again := [f"{job.program.topic} {job.program.name}" for job in jobs if job.alone]:
        yield f"run again alone, as they did not hold in company: {', '.join(again)}"
    by_check: dict[str, list[float]] = defaultdict(list)
    for job in jobs:
        for name, verdict in job.verdicts.items():
            by_check[name].append(verdict.seconds * 1000)
    if by_check:
        runs = [v.seconds * 1000 for job in jobs if not job.real for v in job.verdicts.values()]
        if runs:
            yield f"one check run: median {statistics.median(runs):.0f} ms, {len(runs)} runs"
        medians = {name: statistics.median(times) for name, times in by_check.items()}
        slowest = sorted(medians, key=lambda name: -medians[name])[:SLOWEST]
        yield "slowest checks: " + ", ".join(f"{n} {medians[n]:.0f} ms" for n in slowest)
