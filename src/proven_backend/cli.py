"""The command ``proven``: leads a learner through the course."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from proven_backend import generate, hints, learning, names, new, show, workspace
from proven_backend.grader import WRONG, Grader, GraderError
from proven_backend.learning import told
from proven_backend.message import command
from proven_backend.names import RefusalError
from proven_backend.pack import Pack
from proven_backend.programs import original, swaps
from proven_backend.progress import AGAIN, PASSED, Course, now
from proven_backend.workspace import WorkspaceError

FAILED = 1  # the exit status
BEFORE = """
You should know async and await, type hints and a little SQL, and have
written a route in FastAPI. A rule takes some ten minutes, a topic about an
hour, by our estimate.
"""

app = typer.Typer(
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Runs the command; its exit status is 0, 1 (a check failed) or 2 (it could not be done)."""
    if sys.platform == "win32" and not sys.flags.utf8_mode:
        again = [sys.executable, "-X", "utf8", "-P", "-m", "proven_backend.cli", *sys.argv[1:]]
        sys.exit(subprocess.call(again, env=os.environ | {"PYTHONUTF8": "1"}))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr] # a terminal without ✓
    app(prog_name="proven")


def _examples(*lines: str) -> str:
    return "\n".join(["Examples:", *(f"  {line}" for line in lines)])


@app.callback(
    invoke_without_command=True,
    epilog=_examples("proven", "proven start", "proven watch", "proven COMMAND --help"),
)
def status(context: typer.Context) -> None:
    """Leads you through the course; alone: where you are, what is next, the last verdict."""
    if context.invoked_subcommand:
        return
    with told():
        place = workspace.find(Path.cwd())
        console, course = show.console(), learning.course_of(place)
        learning.standing(console, course)
        console.print(show.what_next(place, course), soft_wrap=True)
        console.print(show.last(course, datetime.now(UTC)), soft_wrap=True)
        if course.next():
            learning.do(console, "watch")


@app.command(epilog=_examples("proven start", "proven start ~/course"))
def start(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="work/ if left out")] = None,
) -> None:
    """Makes the workspace: a copy of the exercises that is yours. Nothing of yours is replaced."""
    with told():
        wanted = folder.expanduser() if folder else workspace.chosen(Path.cwd())
        place, added = workspace.start(workspace.home(Path.cwd()), wanted.resolve())
        console, course = show.console(), learning.course_of(place)
        topics = "1 topic" if len(added) == 1 else f"{len(added)} topics"
        what = f"{topics} added" if added else "nothing was missing"
        console.print(f"Your workspace is {show.relative(place.root)}: {what}.", soft_wrap=True)
        if not course.state.last:
            console.print(BEFORE)
        console.print(show.what_next(place, course), soft_wrap=True)
        learning.do(console, "watch")


@app.command("watch", epilog=_examples("proven watch", "proven watch websockets"))
def watch_(
    topic: Annotated[
        str | None,
        typer.Argument(
            autocompletion=names.complete_topics,
            metavar="TOPIC",
            help="stay with it; else the topic that is saved",
        ),
    ] = None,
) -> None:
    """Grades on each save: verdict, what failed and why, progress.

    Keys: h hint, n next, l list, r reset, q quit.
    """
    from proven_backend import watch  # here: the other commands start faster

    with told():
        place = workspace.find(Path.cwd())
        if topic:
            names.topic(place.pack, topic)
        learning.course_of(place)
        watch.Watch(place, topic, show.console()).loop()


@app.command(
    epilog=_examples("proven check", "proven check websockets", "proven check --json > report.json")
)
def check(
    name: Annotated[
        str | None,
        typer.Argument(
            autocompletion=names.complete_all, metavar="TOPIC[/RULE]", help="all topics if left out"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Grades once. Exit status: 0 all pass, 1 some do not, 2 it could not grade."""
    with told():
        place = workspace.find(Path.cwd())
        answers = list(learning.grade(place, names.wanted(place.pack, name)))
        if not answers:
            raise GraderError("nothing was graded")
        course = Course(place.pack, learning.record(place, answers))
        counts = Counter(answer.state for answer in answers)
        if as_json:
            rules = [asdict(answer) for answer in answers]
            print(json.dumps({"version": 1, "counts": counts, "rules": rules}, indent=1))
        elif len({answer.topic for answer in answers}) > 1:
            learning.tell_all(place, course, answers)
        else:
            learning.tell_one(place, course, answers)
    raise typer.Exit(0 if counts.keys() == {PASSED} else FAILED)


@app.command(
    epilog=_examples(
        "proven hint",
        "proven hint commit-before-reply",
        "proven hint commit-before-reply --level 2",
    )
)
def hint(
    name: Annotated[
        str | None,
        typer.Argument(
            autocompletion=names.complete_rules, metavar="RULE", help="the next rule if left out"
        ),
    ] = None,
    level: Annotated[
        int | None, typer.Option(min=1, max=hints.LEVELS, help="this level, not the next one")
    ] = None,
) -> None:
    """The next of four hints for a rule, the next rule if none is named; it is recorded.

    1 the question and what was seen, 2 the reason, 3 a wrong code, 4 the right code.
    """
    with told():
        place = workspace.find(Path.cwd())
        rule = names.rule(place.pack, name) if name else learning.course_of(place).next()
        if rule is None:
            raise RefusalError("all rules pass: name the rule that you mean")
        with place.progress.change() as state:
            record = state.record(rule.topic, rule.id)
            number = level or min(record.hints + 1, hints.LEVELS)
            record.hints = max(record.hints, number)
        answers = list(learning.grade(place, {rule.topic: [rule.id]})) if number == 1 else []
        seen = answers[0].text if answers else ""
        console = show.console()
        console.print(
            f"{rule.topic} / {rule.id}  (hint {number} of {hints.LEVELS})\n", style="bold"
        )
        console.print(hints.hint(place.pack, rule, number, seen), soft_wrap=True)
        if number < hints.LEVELS:
            console.print(f"\nThe next one is {hints.KINDS[number]}.")
            learning.do(console, "hint", rule.id)


@app.command("next", epilog=_examples("proven next"))
def next_() -> None:
    """The next rule: where its TODO is, and why it is next."""
    with told():
        place = workspace.find(Path.cwd())
        show.console().print(show.what_next(place, learning.course_of(place)), soft_wrap=True)


@app.command("list", epilog=_examples("proven list", "proven list | grep 'to do'"))
def list_() -> None:
    """All rules with their state."""
    with told():
        place = workspace.find(Path.cwd())
        course, console = learning.course_of(place), show.console()
        console.print(show.rules(course), soft_wrap=True)
        console.print(show.bar(course))


@app.command(epilog=_examples("proven explain commit-before-reply"))
def explain(
    name: Annotated[str, typer.Argument(autocompletion=names.complete_rules, metavar="RULE")],
) -> None:
    """A rule as the skill prints it, and how its wrong code fails: it is run now.

    The right code is shown once the rule has passed in your workspace, or hint 4 was given.
    """
    with told():
        pack = Pack(workspace.home(Path.cwd()))
        rule = names.rule(pack, name)
        right, console = learning.may_see_right(rule), show.console()
        for part in show.block(pack, rule, right=right):
            console.print(part, soft_wrap=isinstance(part, Text))
        if not right:
            console.print(
                f"The right code is shown once the rule has passed, and by "
                f"{command('proven')} hint {rule.id} --level {hints.LEVELS}\n",
                style="dim",
                soft_wrap=True,
            )
        wrongs = [s for s, _ in swaps(original(pack, "solutions", rule.topic), rule, "wrong")]
        judged = next((s for s in wrongs if s.server in {None, "SQLite"}), None)
        if judged is None:
            console.print(f"Its wrong codes fail on {wrongs[0].server}, which is not run here.")
            return
        which = (
            "The first wrong code" if judged is wrongs[0] else f"The wrong code at {judged.where}"
        )
        console.print(f"{which}, run now by {rule.check}:\n", style="bold", soft_wrap=True)
        with closing(Grader(pack.root, pack.root / "solutions", console.width)) as grader:
            for answer in grader.grade({rule.topic: [rule.id]}, WRONG):
                shown = show.only(answer.text, ["done", "seen", "expected", "printed"])
                console.print(show.said(f"✗ {answer.rule} {answer.state}\n{shown}"), soft_wrap=True)


@app.command(epilog=_examples("proven solution websockets", "proven solution websockets --give-up"))
def solution(
    topic: Annotated[str, typer.Argument(autocompletion=names.complete_topics, metavar="TOPIC")],
    give_up: Annotated[
        bool, typer.Option("--give-up", help="see it before the rules pass; this is recorded")
    ] = False,
) -> None:
    """The difference between your files and the reference, once all rules of the topic passed."""
    with told():
        place = workspace.find(Path.cwd())
        names.topic(place.pack, topic)
        course = learning.course_of(place)
        left = [rule.id for rule in place.pack.rules(topic) if not course.once_passed(rule)]
        if left and not give_up and topic not in course.state.given_up:
            raise RefusalError(
                f"{len(left)} rules of {topic} have not passed yet (first: {left[0]}): solve them, "
                f"or see it now by `{command('proven')} solution {topic} --give-up`, "
                "which is recorded"
            )
        if left:
            with place.progress.change() as state:
                state.given_up.setdefault(topic, now())
        lines, console = list(learning.difference(place, topic)), show.console()
        if lines:
            console.print(show.highlighted("\n".join(lines), "diff"), soft_wrap=True)
        else:
            console.print("Your files are the reference, line for line.")


@app.command(epilog=_examples("proven reset websockets"))
def reset(
    topic: Annotated[str, typer.Argument(autocompletion=names.complete_topics, metavar="TOPIC")],
) -> None:
    """Puts the stub in the place of a topic; your files are kept, and you are told where."""
    with told():
        place, console = workspace.find(Path.cwd()), show.console()
        kept = workspace.reset(place, names.topic(place.pack, topic))
        if kept:
            console.print(f"Your files are kept in {show.relative(kept)}", soft_wrap=True)
        console.print(f"{show.relative(place.root / topic)} is the stub again.", soft_wrap=True)
        with place.progress.change() as state:
            for rule in place.pack.rules(topic):
                state.record(topic, rule.id).state = ""


@app.command(epilog=_examples("git pull && proven update"))
def update() -> None:
    """After a pull: brings new stubs, keeps what you edited, says what to verify again."""
    with told():
        place = workspace.find(Path.cwd())
        console, current = show.console(), True
        for file, what in workspace.update(place):
            console.print(f"{file}  {what}", soft_wrap=True)
            current = False
        course = learning.course_of(place)
        for topic in place.pack.topics():
            for rule in place.pack.rules(topic):
                if course.standing(rule) == AGAIN:
                    console.print(
                        f"{topic}/{rule.id}  verify again: its check changed", soft_wrap=True
                    )
                    current = False
        if current:
            console.print("All is current.")
        else:
            learning.do(console, "check")


@app.command("doctor", epilog=_examples("proven doctor"))
def doctor_() -> None:
    """What is wrong with this machine or workspace, and the command that mends it."""
    from proven_backend import doctor  # here: the other commands start faster

    console, faults = show.console(), 0
    with told():
        for finding in doctor.findings(Path.cwd()):
            sign, style = ("✗", "red") if finding.mend else ("✓", "green")
            console.print(Text(f"{sign} {finding.text}", style), soft_wrap=True)
            if finding.mend:
                faults += 1
                console.print(f"  mend it: {finding.mend}", soft_wrap=True)
    raise typer.Exit(FAILED if faults else 0)


@app.command("generate", hidden=True)
def generate_() -> None:
    """Writes the pages that are made from the skills (for those who change the pack)."""
    with told():
        pack = _pack()
        for file in generate.write(pack):
            print(f"wrote {file.relative_to(pack.root)}")


new_ = typer.Typer(help="Lays out a new topic or rule (for those who change the pack).")
app.add_typer(new_, name="new", hidden=True)


@new_.command("topic", epilog=_examples("proven new topic file-uploads"))
def new_topic(name: str) -> None:
    """Lays out the files of a topic, and says what to write in each."""
    with told():
        _laid_out(new.topic(_pack(), name), name)


@new_.command("rule", epilog=_examples("proven new rule websockets close-on-shutdown"))
def new_rule(topic: str, name: str) -> None:
    """Lays out a rule: its block in the skill and its check, and says where else to write."""
    with told():
        _laid_out(new.rule(_pack(), topic, name), topic)


def _laid_out(files: Iterator[tuple[Path, str]], topic: str) -> None:
    for file, wanted in files:
        print(f"{show.relative(file)}  {wanted}")
    print(f"What is missing: {command('pytest')} checks/test_{topic}.py --prove")


def _pack() -> Pack:
    root = workspace.checkout(Path.cwd())
    if root is None:
        raise WorkspaceError(f"{Path.cwd()} is not in a checkout of the pack: change into one")
    return Pack(root)


if __name__ == "__main__":
    main()
