"""The command ``proven``: leads a learner through the course."""

import difflib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.syntax import Syntax
from rich.text import Text

from proven_backend import doctor, generate, hints, show, watch, workspace
from proven_backend.grader import WRONG, Answer, Grader, GraderError
from proven_backend.pack import Pack, PackError, Rule
from proven_backend.programs import original
from proven_backend.progress import AGAIN, PASSED, Course, State, StateError, now
from proven_backend.workspace import Workspace, WorkspaceError

FAILED, CANNOT = 1, 2
BEFORE = """
You should know async and await, type hints and a little SQL, and have written a route in FastAPI.
A rule takes some ten minutes, a topic about an hour, by our estimate.
"""

app = typer.Typer(
    help="Leads you through the course: what to do next, and a verdict on each save.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Runs the command; its exit status is 0, 1 (a check failed) or 2 (it could not be done)."""
    if sys.platform == "win32" and not sys.flags.utf8_mode:
        again = [sys.executable, "-X", "utf8", "-m", "proven_backend.cli", *sys.argv[1:]]
        sys.exit(subprocess.call(again, env=os.environ | {"PYTHONUTF8": "1"}))
    app()


@contextmanager
def _told() -> Iterator[None]:
    """Says in one sentence what could not be done."""
    try:
        yield
    except (PackError, WorkspaceError, StateError, GraderError, OSError) as fault:
        show.console(stderr=True).print(f"proven: {fault}", style="red", soft_wrap=True)
        raise typer.Exit(CANNOT) from None


def _example(*lines: str) -> str:
    return "Examples:\n\n" + "\n\n".join(f"  {line}" for line in lines)


def _topics(incomplete: str) -> list[str]:
    root = workspace.checkout(Path.cwd()) or _root()
    return [topic for topic in Pack(root).topics() if topic.startswith(incomplete)] if root else []


def _names(incomplete: str) -> list[str]:
    root = workspace.checkout(Path.cwd()) or _root()
    pack = Pack(root) if root else None
    rules = [rule.id for topic in pack.topics() for rule in pack.rules(topic)] if pack else []
    return [*_topics(incomplete), *(rule for rule in rules if rule.startswith(incomplete))]


def _root() -> Path | None:
    try:
        return workspace.find(Path.cwd()).pack.root
    except WorkspaceError:
        return None


TopicArgument = Annotated[str, typer.Argument(autocompletion=_topics, metavar="TOPIC")]
RuleArgument = Annotated[str, typer.Argument(autocompletion=_names, metavar="RULE")]


@app.callback(
    invoke_without_command=True,
    epilog=_example("proven start", "proven watch", "proven hint", "proven COMMAND --help"),
)
def status(context: typer.Context) -> None:
    """Leads you through the course; alone: where you are, what is next, the last verdict."""
    if context.invoked_subcommand:
        return
    with _told():
        place = workspace.find(Path.cwd())
        console, course = show.console(), _course(place)
        console.print(show.topics(course))
        console.print()
        console.print(show.bar(course))
        console.print(show.what_next(place, course), soft_wrap=True)
        console.print(show.last(course, datetime.now(UTC)), soft_wrap=True)
        console.print(Text("do      proven watch", "bold"))


def _course(place: Workspace) -> Course:
    """Where the learner stands; a damaged state is rebuilt by grading everything."""
    progress = place.progress
    state = progress.read()
    if progress.damaged:
        err = show.console(stderr=True)
        err.print(
            f"The progress was damaged. It is kept in {progress.damaged}; all topics are graded to "
            "rebuild it.",
            style="yellow",
            soft_wrap=True,
        )
        state = _record(place, list(_grade(place, {topic: [] for topic in place.pack.topics()})))
    return Course(place.pack, state)


def _grade(place: Workspace, topics: dict[str, list[str]]) -> Iterator[Answer]:
    with closing(Grader(place.pack.root, place.root, show.console().width)) as grader:
        yield from grader.grade(topics)


def _record(place: Workspace, answers: list[Answer]) -> State:
    """Stores verdicts; the last of them is the first that failed."""
    order = [rule.id for topic in place.pack.topics() for rule in place.pack.rules(topic)]
    answers.sort(key=lambda answer: order.index(answer.rule))
    with place.progress.change() as state:
        for answer in answers:
            state.take(answer)
        failing = [answer for answer in answers if answer.state != PASSED]
        if answers:
            state.took_last((failing or answers[-1:])[0])
    return state


@app.command(epilog=_example("proven start", "proven start ~/course"))
def start(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="work/ if left out")
    ] = None,
) -> None:
    """Makes the workspace: a copy of the exercises that is yours. Nothing of yours is replaced."""
    with _told():
        root = workspace.checkout(Path.cwd()) or _root()
        if root is None:
            raise WorkspaceError("change into a checkout of the pack: the exercises are there")
        wanted = Path.cwd() / folder if folder else workspace.attached(root) or root / "work"
        place, added = workspace.start(root, wanted.resolve())
        console = show.console()
        console.print(f"Your workspace is {show.relative(place.root)}: {len(added)} topics added.")
        console.print(BEFORE, soft_wrap=True)
        console.print(show.what_next(place, _course(place)), soft_wrap=True)
        console.print(Text("do      proven watch", "bold"))


@app.command("watch", epilog=_example("proven watch", "proven watch websockets"))
def watch_(
    topic: Annotated[str | None, typer.Argument(autocompletion=_topics, metavar="[TOPIC]")] = None,
) -> None:
    """Grades on each save: verdict, what failed and why, progress.

    Keys: hint, next, list, reset, quit.
    """
    with _told():
        place = workspace.find(Path.cwd())
        if topic:
            _topic(place.pack, topic)
        _course(place)
        watch.Watch(place, topic, show.console()).loop()


def _topic(pack: Pack, name: str) -> str:
    if name not in pack.topics():
        raise PackError(f"no topic is called {name}: it is one of {', '.join(pack.topics())}")
    return name


def _wanted(pack: Pack, name: str | None) -> dict[str, list[str]]:
    """What a TOPIC, TOPIC/RULE, RULE or nothing names."""
    if name is None:
        return {topic: [] for topic in pack.topics()}
    if name in pack.topics():
        return {name: []}
    rule = hints.find(pack, name)
    return {rule.topic: [rule.id]}


@app.command(
    epilog=_example("proven check", "proven check websockets", "proven check --json > report.json")
)
def check(
    name: Annotated[
        str | None, typer.Argument(autocompletion=_names, metavar="[TOPIC[/RULE]]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Grades once. Exit status: 0 all pass, 1 some do not, 2 could not grade."""
    with _told():
        place = workspace.find(Path.cwd())
        answers = list(_grade(place, _wanted(place.pack, name)))
        if not answers:
            raise GraderError("nothing was graded")
        try:
            state = _record(place, answers)
        except StateError as fault:
            show.console(stderr=True).print(f"proven: {fault}", style="red", soft_wrap=True)
            state = State()
        course, counts = Course(place.pack, state), Counter(answer.state for answer in answers)
        if as_json:
            told = {"counts": counts, "rules": [asdict(answer) for answer in answers]}
            print(json.dumps({"version": 1, **told}, indent=1))
        else:
            _print(place, course, answers)
    raise typer.Exit(0 if counts.keys() == {PASSED} else FAILED)


def _print(place: Workspace, course: Course, answers: list[Answer]) -> None:
    console = show.console()
    failing = [answer for answer in answers if answer.state != PASSED]
    if len({answer.topic for answer in answers}) > 1:
        console.print(show.topics(course))
        console.print()
    else:
        if failing:
            console.print(show.said(failing[0].text), soft_wrap=True)
            console.print()
        for answer in answers:
            console.print(show.verdict(answer), soft_wrap=True)
    console.print(f"{len(answers) - len(failing)} of {len(answers)} rules pass.")
    console.print(show.what_next(place, course), soft_wrap=True)


@app.command(epilog=_example("proven hint", "proven hint commit-before-reply --level 2"))
def hint(
    name: Annotated[str | None, typer.Argument(autocompletion=_names, metavar="[RULE]")] = None,
    level: Annotated[
        int | None, typer.Option(min=1, max=hints.LEVELS, help="this level, not the next one")
    ] = None,
) -> None:
    """The next hint.

    1 question and what was seen, 2 the reason, 3 the wrong code, 4 the right code.
    """
    with _told():
        place = workspace.find(Path.cwd())
        course = _course(place)
        rule = hints.find(place.pack, name) if name else course.next()
        if rule is None:
            raise PackError("all rules pass: name the one that you mean")
        with place.progress.change() as state:
            record = state.record(rule.topic, rule.id)
            told = level or min(record.hints + 1, hints.LEVELS)
            record.hints = max(record.hints, told)
        seen = ""
        if told == 1:
            answers = list(_grade(place, {rule.topic: [rule.id]}))
            seen = answers[0].text if answers else ""
        console = show.console()
        console.print(f"{rule.topic} / {rule.id} (hint {told} of {hints.LEVELS})\n", style="bold")
        console.print(hints.hint(place.pack, rule, told, seen), markup=False, soft_wrap=True)
        if told < hints.LEVELS:
            console.print("\nThe next one: proven hint" + (f" {rule.id}" if name else ""))


@app.command("next")
def next_() -> None:
    """The next rule: where its TODO is, and why it is next."""
    with _told():
        place = workspace.find(Path.cwd())
        show.console().print(show.what_next(place, _course(place)))


@app.command("list")
def list_() -> None:
    """All rules with their state."""
    with _told():
        place = workspace.find(Path.cwd())
        course, console = _course(place), show.console()
        console.print(show.rules(course))
        console.print(show.bar(course))


@app.command(epilog=_example("proven explain commit-before-reply"))
def explain(name: RuleArgument) -> None:
    """A rule as the skill prints it, and the failure of its wrong code, which is run now.

    The right code is shown once the rule has passed in your workspace, or with hint 4.
    """
    with _told():
        root = workspace.checkout(Path.cwd()) or _root()
        if root is None:
            raise WorkspaceError("change into a workspace or a checkout of the pack")
        pack = Pack(root)
        rule = hints.find(pack, name)
        solved = _solved(rule)
        console = show.console()
        console.print(show.block(pack, rule, right=solved))
        if not solved:
            console.print(
                f"The right code: once the rule has passed, or by proven hint {rule.id} --level 4",
                style="dim",
            )
        console.print(f"\nThe first wrong code, run now by {rule.check}:\n", style="bold")
        with closing(Grader(root, root / "solutions", console.width)) as grader:
            for answer in grader.grade({rule.topic: [rule.id]}, WRONG):
                seen = answer.text.partition("\nexpected ")[0]
                console.print(show.said(seen), soft_wrap=True)


def _solved(rule: Rule) -> bool:
    """Whether the learner may see the right code; so may those who have no workspace."""
    try:
        state = workspace.find(Path.cwd()).progress.read()
    except WorkspaceError:
        return True
    record = state.record(rule.topic, rule.id)
    return bool(record.first_passed) or record.hints == hints.LEVELS


@app.command(epilog=_example("proven solution websockets"))
def solution(
    topic: TopicArgument,
    give_up: Annotated[
        bool, typer.Option("--give-up", help="see it before the rules pass; this is recorded")
    ] = False,
) -> None:
    """The difference between your files and the reference, once all rules of the topic pass."""
    with _told():
        place = workspace.find(Path.cwd())
        _topic(place.pack, topic)
        course = _course(place)
        left = [rule.id for rule in place.pack.rules(topic) if not course.once_passed(rule)]
        if left and not give_up and topic not in course.state.given_up:
            raise PackError(
                f"{len(left)} rules of {topic} have not passed yet (first: {left[0]}): solve them, "
                f"or see it now by `proven solution {topic} --give-up`, which is recorded"
            )
        if left and give_up:
            with place.progress.change() as state:
                state.given_up.setdefault(topic, now())
        text = "".join(_difference(place, topic))
        console = show.console()
        if text:
            console.print(Syntax(text, "diff", background_color="default", word_wrap=True))
        else:
            console.print("Your files are the reference, line for line.")


def _difference(place: Workspace, topic: str) -> Iterator[str]:
    reference = original(place.pack, "solutions", topic).sources
    for name, theirs in reference.items():
        mine = (workspace.content(place.root / topic / name) or b"").decode(errors="replace")
        yield from difflib.unified_diff(
            mine.splitlines(keepends=True),
            theirs.splitlines(keepends=True),
            f"yours/{name}",
            f"reference/{name}",
        )


@app.command(epilog=_example("proven reset websockets"))
def reset(topic: TopicArgument) -> None:
    """Puts the stub in the place of a topic; your files are kept, and you are told where."""
    with _told():
        place = workspace.find(Path.cwd())
        kept = workspace.reset(place, _topic(place.pack, topic))
        if kept:
            print(f"Your files are kept in {show.relative(kept)}")
        print(f"{show.relative(place.root / topic)} is the stub again.")


@app.command()
def update() -> None:
    """After a pull: brings new stubs, keeps what you edited, says what to verify again."""
    with _told():
        place = workspace.find(Path.cwd())
        console = show.console()
        changes = list(workspace.update(place))
        for file, what in changes:
            console.print(f"{file}  {what}", soft_wrap=True)
        course = _course(place)
        again = [
            rule
            for topic in place.pack.topics()
            for rule in place.pack.rules(topic)
            if course.standing(rule) == AGAIN
        ]
        for rule in again:
            console.print(
                f"{rule.topic}/{rule.id}  verify again: its check changed", soft_wrap=True
            )
        if again:
            console.print("Verify them: proven check")
        if not changes and not again:
            console.print("All is current.")


@app.command("doctor")
def doctor_() -> None:
    """What is wrong with this machine or workspace, and the command that mends it."""
    console, faults = show.console(), 0
    for finding in doctor.findings(Path.cwd()):
        sign, style = ("✗", "red") if finding.mend else ("✓", "green")
        console.print(Text(f"{sign} {finding.text}", style), soft_wrap=True)
        if finding.mend:
            faults += 1
            console.print(f"  mend it: {finding.mend}", soft_wrap=True, markup=False)
    raise typer.Exit(FAILED if faults else 0)


@app.command("generate", hidden=True)
def generate_() -> None:
    """Writes the pages that are made from the skills (for those who change the pack)."""
    with _told():
        root = workspace.checkout(Path.cwd())
        if root is None:
            raise WorkspaceError("change into a checkout of the pack")
        for file in generate.write(Pack(root)):
            print(f"wrote {file.relative_to(root)}")


if __name__ == "__main__":
    main()
