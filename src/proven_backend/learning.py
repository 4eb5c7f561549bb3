"""What the commands for learners share: where one stands, grading, and what is said of both."""

import difflib
import shlex
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from proven_backend import hints, names, show, workspace
from proven_backend.grader import Answer, Grader, GraderError
from proven_backend.message import command
from proven_backend.names import RefusalError
from proven_backend.pack import PackError, Rule
from proven_backend.programs import original, read
from proven_backend.progress import PASSED, Course, State, StateError
from proven_backend.workspace import Workspace, WorkspaceError

CANNOT = 2  # the exit status


@contextmanager
def told() -> Iterator[None]:
    """Says in one sentence what could not be done."""
    try:
        yield
    except BrokenPipeError:
        raise  # the reader has seen enough: nobody is there to be told
    except (RefusalError, PackError, WorkspaceError, StateError, GraderError) as fault:
        complain(str(fault))
        raise typer.Exit(CANNOT) from None
    except OSError as fault:
        complain(f"{fault.filename}: {fault.strerror}" if fault.filename else str(fault))
        raise typer.Exit(CANNOT) from None


def complain(sentence: str) -> None:
    """Says on the error stream what went wrong."""
    console = show.console(stderr=True)
    console.print(f"proven: {sentence}", style="red", soft_wrap=not console.is_terminal)


def do(console: Console, *arguments: str) -> None:
    """Says what to type next."""
    console.print(
        Text(f"do      {shlex.join([command('proven'), *arguments])}", "bold"), soft_wrap=True
    )


def standing(console: Console, course: Course) -> None:
    """Prints where the learner stands."""
    console.print(show.topics(course), soft_wrap=True)
    console.print()
    console.print(show.legend(course), show.bar(course))


def course_of(place: Workspace) -> Course:
    """Where the learner stands; a damaged state is rebuilt by grading everything."""
    state = place.progress.read()
    if state.damaged:
        show.console(stderr=True).print(
            f"The progress was damaged. It is kept in {state.damaged}; all topics are graded to "
            f"rebuild it (`{command('proven')} check` does so too).",
            style="yellow",
            soft_wrap=True,
        )
        state = record(place, list(grade(place, names.wanted(place.pack, None))))
    return Course(place.pack, state)


def grade(place: Workspace, topics: dict[str, list[str]]) -> Iterator[Answer]:
    """Grades topics, each with its rules (none: all); raises GraderError where that fails."""
    with closing(Grader(place.pack.root, place.root, show.console().width)) as grader:
        yield from grader.grade(topics)


def record(place: Workspace, answers: list[Answer]) -> State:
    """Stores verdicts, the first that failed as the last one, and says it where that fails."""
    order = [rule.id for topic in place.pack.topics() for rule in place.pack.rules(topic)]
    answers.sort(key=lambda answer: order.index(answer.rule))
    state = State()
    try:
        with place.progress.change() as state:
            state.take(*answers)
            if {answer.rule for answer in answers} == set(order):
                state.damaged = ""
            failing = [answer for answer in answers if answer.state != PASSED]
            if answers:
                state.took_last((failing or answers[-1:])[0])
    except StateError as fault:
        complain(str(fault))
    return state


def tell_all(place: Workspace, course: Course, answers: list[Answer]) -> None:
    """The verdicts of all topics, and of the next rule in short."""
    console, rule = show.console(), course.next()
    standing(console, course)
    console.print(show.what_next(place, course), soft_wrap=True)
    for answer in answers:
        if rule and answer.rule == rule.id:
            console.print(show.outcome(answer.text), soft_wrap=True)
            do(console, "watch")


def tell_one(place: Workspace, course: Course, answers: list[Answer]) -> None:
    """The verdicts of one topic; of the first that fails all that its check says."""
    console = show.console()
    failing = [answer for answer in answers if answer.state != PASSED]
    for answer in answers:
        console.print(show.verdict(answer), soft_wrap=True)
    console.print(f"{len(answers) - len(failing)} of {len(answers)} rules pass.\n")
    if failing:
        console.print(show.said(failing[0].text), soft_wrap=True)
    else:
        console.print(show.what_next(place, course), soft_wrap=True)


def may_see_right(rule: Rule) -> bool:
    """Whether the right code may be shown; without a workspace nobody learns here."""
    try:
        place = workspace.find(Path.cwd())
    except WorkspaceError:
        return True
    record = course_of(place).state.record(rule.topic, rule.id)
    return bool(record.first_passed) or record.hints == hints.LEVELS


def difference(place: Workspace, topic: str) -> Iterator[str]:
    """The lines of a diff from the learner's files of a topic to the solution."""
    mine = read(place.root / topic)
    reference = original(place.pack, "solutions", topic).sources
    for name in sorted(mine | reference):
        yield from difflib.unified_diff(
            mine.get(name, "").splitlines(),
            reference.get(name, "").splitlines(),
            f"yours/{name}",
            f"reference/{name}",
            lineterm="",
        )
