"""What the command `proven` prints: progress, verdicts, hints, rules."""

from datetime import datetime
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.markdown import Markdown
from rich.progress_bar import ProgressBar
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from proven_backend import message
from proven_backend.grader import Answer
from proven_backend.pack import Pack, Rule
from proven_backend.programs import Program, Sources, read
from proven_backend.progress import AGAIN, PASSED, Course
from proven_backend.verdict import Verdict
from proven_backend.workspace import Workspace

MARKS = {
    PASSED: ("✓", "green"),
    "failed": ("✗", "red"),
    AGAIN: ("?", "yellow"),
    "blocked": ("b", "yellow"),
    "not graded": ("-", "yellow"),
    "not started": ("·", "dim"),
    "": ("·", "dim"),
}
LEGEND = "✓ passed  ✗ failed  ? verify again  b blocked by another rule  - not graded  · to do"
LABELS = ("done", "seen", "expected", "why", "where", "next", "printed")


def marks(standings: list[str]) -> Text:
    """One sign for each rule."""
    text = Text()
    for standing in standings:
        text.append(*MARKS[standing])
    return text


def bar(course: Course) -> RenderableType:
    """How much of the course is done."""
    rules = [rule for topic in course.pack.topics() for rule in course.pack.rules(topic)]
    done = sum(course.once_passed(rule) for rule in rules)
    table = Table.grid(padding=(0, 1))
    table.add_row("course", ProgressBar(len(rules), done, 40), f"{done} of {len(rules)} rules")
    return table


def topics(course: Course, current: str = "") -> RenderableType:
    """A line for each topic, with a sign for each of its rules."""
    table = Table.grid(padding=(0, 2))
    for topic in course.pack.topics():
        rules = course.pack.rules(topic)
        done = sum(course.once_passed(rule) for rule in rules)
        table.add_row(
            Text(topic, "bold" if topic == current else ""),
            marks([course.standing(rule) for rule in rules]),
            f"{done} of {len(rules)}",
        )
    return table


def rules(course: Course) -> RenderableType:
    """Every rule with its state and its sentence."""
    table = Table.grid(padding=(0, 2))
    upcoming = course.next()
    for topic in course.pack.topics():
        table.add_row("", Text(topic, "bold"))
        for rule in course.pack.rules(topic):
            standing = course.standing(rule)
            sign, style = MARKS[standing]
            told = standing or "to do"
            if standing not in {PASSED, AGAIN} and course.once_passed(rule):
                told += ", passed before"
            if rule == upcoming:
                told += ", next"
            table.add_row(Text(sign, style), f"  {rule.id}", Text(told, style))
    return table


def said(text: str) -> Text:
    """The message of a check, its labels set apart."""
    lines = text.splitlines()
    shown = Text()
    for number, line in enumerate(lines):
        label = line.split(" ", 1)[0]
        if number == 0:
            shown.append(line, "bold red")
        elif label in LABELS and len(line) > message.LABEL:
            shown.append(line[: message.LABEL], "bold").append(line[message.LABEL :])
        else:
            shown.append(line)
        shown.append("\n" if number + 1 < len(lines) else "")
    return shown


def place(workspace: Workspace, rule: Rule) -> str:
    """file:line of a rule's TODO in the workspace, and its question."""
    folder = workspace.root / rule.topic
    sources: Sources = read(folder) if folder.is_dir() else {}
    program = Program(rule.topic, "submission", sources, str(folder))
    return message.where(workspace.pack, rule, program, Verdict(""))


def what_next(workspace: Workspace, course: Course) -> Text:
    """The next rule, where it stands, and why it is next."""
    rule = course.next()
    if rule is None:
        return Text("All rules of the course pass.", "bold green")
    why = {
        AGAIN: "it passed before its check changed: verify it again",
        "failed": "its check fails"
        + (" now; it passed before" if course.once_passed(rule) else ""),
        "blocked": "another rule's TODO stands in its way",
    }.get(course.standing(rule), "the first that is not done")
    text = Text("next    ", "bold").append(f"{rule.topic} / {rule.id}  ({why})\n", "not bold")
    return text.append(f"        {place(workspace, rule)}", "not bold")


def last(course: Course, current: datetime) -> Text:
    """The last verdict, in a line or two."""
    kept = course.state.last
    if not kept:
        return Text("last    no verdict yet")
    minutes = int((current - datetime.fromisoformat(kept["at"])).total_seconds() // 60)
    ago = "just now" if minutes < 1 else f"{minutes} min ago"
    if minutes >= 120:
        ago = f"{minutes // 60} h ago" if minutes < 2880 else f"{minutes // 1440} days ago"
    sign, style = MARKS[kept["state"]]
    text = Text("last    ", "bold").append(f"{sign} {kept['rule']} {kept['state']}, {ago}", style)
    _, found, seen = kept["text"].partition("\nseen ")
    if found:
        line = seen.partition("\nexpected ")[0].splitlines()[-1].strip()
        text.append(f"\n        {line}", "not bold")
    return text


def block(pack: Pack, rule: Rule, *, right: bool) -> RenderableType:
    """The rule as the skill prints it; without its right code where `right` is False."""
    lines = pack.skill(rule.topic).read_text(encoding="utf-8").splitlines()
    start = lines.index(f"### {rule.id}")
    ends = [n for n in range(start + 1, len(lines)) if lines[n].startswith(("### ", "## "))]
    text = lines[start : ends[0] if ends else None]
    parts: list[RenderableType] = []
    prose: list[str] = []
    code: list[str] | None = None
    title = ""
    for line in text:
        if code is None and line.startswith("```"):
            parts.append(Markdown("\n".join(prose)))
            prose, code = [], []
            title = line.partition('title="')[2].partition('"')[0]
        elif code is not None and line.startswith("```"):
            if right or "right" not in title:
                style = "red" if title.startswith("wrong") else "green"
                parts += [Text(title, f"bold {style}"), Syntax("\n".join(code), "python"), Text()]
            code = None
        else:
            (prose if code is None else code).append(line)
    if prose:
        parts.append(Markdown("\n".join(prose)))
    return Group(*parts)


def verdict(answer: Answer) -> RenderableType:
    """One rule's verdict as a line."""
    sign, style = MARKS[answer.state]
    return Text(f"{sign} {answer.rule} {answer.state}", style)


def console(*, stderr: bool = False) -> Console:
    """A console that colours only in a terminal, and not where NO_COLOR is set."""
    return Console(highlight=False, stderr=stderr, soft_wrap=False)


def relative(path: Path) -> str:
    """A path as a person would type it here."""
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.as_posix()
