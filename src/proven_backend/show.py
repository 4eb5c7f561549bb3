"""What the command `proven` prints: progress, verdicts, hints, rules."""

import textwrap
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from rich.console import Console, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from proven_backend import message
from proven_backend.grader import Answer
from proven_backend.pack import Pack, Rule
from proven_backend.programs import Program, Sources, read
from proven_backend.progress import AGAIN, PASSED, Course
from proven_backend.verdict import Verdict
from proven_backend.workspace import Workspace

TO_DO = ("·", "dim", "to do")
MARKS = {
    PASSED: ("✓", "green", "passed"),
    "failed": ("✗", "red", "failed"),
    AGAIN: ("?", "yellow", "verify again: its check changed"),
    "blocked": ("b", "yellow", "blocked by another rule"),
    "not graded": ("-", "yellow", "not graded"),
    "not started": TO_DO,
    "": TO_DO,
}
LABELS = ("done", "seen", "expected", "why", "where", "next", "printed")
PROSE = 100  # columns; longer lines are hard to read


def marks(standings: list[str]) -> Text:
    """One sign for each rule."""
    text = Text()
    for standing in standings:
        text.append(*MARKS[standing][:2])
    return text


def legend(course: Course) -> Text:
    """What the signs mean that this course has now."""
    rules = (rule for topic in course.pack.topics() for rule in course.pack.rules(topic))
    here = {MARKS[course.standing(rule)] for rule in rules}
    signs = (
        f"{sign} {words}"
        for sign, _, words in dict.fromkeys(MARKS.values())
        if (sign, _, words) in here
    )
    return Text("  ".join(signs), "dim")


def bar(course: Course) -> RenderableType:
    """How much of the course is done."""
    rules = [rule for topic in course.pack.topics() for rule in course.pack.rules(topic)]
    done = sum(course.once_passed(rule) for rule in rules)
    table = Table.grid(padding=(0, 1))
    table.add_row("course ", f"{done} of {len(rules)} rules", ProgressBar(len(rules), done, 24))
    return table


def topics(course: Course, current: str = "") -> Text:
    """A line for each topic, with a sign for each of its rules."""
    names = course.pack.topics()
    lines = []
    for topic in names:
        rules = course.pack.rules(topic)
        done = sum(course.once_passed(rule) for rule in rules)
        line = Text(topic.ljust(max(map(len, names)) + 2), "bold" if topic == current else "")
        signs = marks([course.standing(rule) for rule in rules])
        signs.pad_right(9 - len(rules))  # a topic has at most seven
        lines.append(line + signs + Text(f"{done} of {len(rules)}"))
    return Text("\n").join(lines)


def rules(course: Course) -> Text:
    """Every rule with its state."""
    upcoming = course.next()
    text = Text()
    for topic in course.pack.topics():
        text.append(f"{topic}\n", "bold")
        for rule in course.pack.rules(topic):
            standing = course.standing(rule)
            sign, style, _ = MARKS[standing]
            told = standing or "to do"
            if standing not in {PASSED, AGAIN} and course.once_passed(rule):
                told += ", passed before"
            if rule == upcoming:
                told += ", next"
            text.append(f"{sign} {rule.id:<42} ").append(f"{told}\n", style)
    return text


def said(text: str) -> Text:
    """The message of a check, its labels set apart."""
    lines = text.splitlines()
    shown = Text()
    for number, line in enumerate(lines):
        if number == 0:
            shown.append(line, "bold red")
        elif _label(line):
            shown.append(line[: message.LABEL], "bold").append(line[message.LABEL :])
        else:
            shown.append(line)
        shown.append("\n" if number + 1 < len(lines) else "")
    return shown


def only(text: str, labels: Iterable[str]) -> str:
    """The message of a check, of its parts those with these labels; whole where it has no parts."""
    lines = text.splitlines()
    if not any(map(_label, lines)):
        return text
    wanted, kept = False, []
    for line in lines:
        wanted = _label(line) in labels if _label(line) else wanted
        kept += [line] if wanted else []
    return "\n".join(kept)


def outcome(text: str) -> str:
    """What was wrong, of the message of a check: what stands below the story, indented."""
    lines = [line[message.LABEL :] for line in only(text, ["seen"]).splitlines()]
    if not any(map(_label, text.splitlines())):
        return _below(text)
    story = [number for number, line in enumerate(lines) if line.startswith(" ")]
    return _below(" ".join(lines[story[-1] + 1 if story else 0 :]))


def _label(line: str) -> str:
    label = line[: message.LABEL].strip()
    return label if label in LABELS and line.startswith(label) else ""


def place(workspace: Workspace, rule: Rule) -> str:
    """file:line of a rule's TODO in the workspace, and its question."""
    folder = workspace.root / rule.topic
    sources: Sources = read(folder) if folder.is_dir() else {}
    program = Program(rule.topic, "submission", sources, str(folder))
    return message.where(workspace.pack, rule, program, Verdict(""))


def what_next(workspace: Workspace, course: Course) -> Text:
    """The next rule, why it is next, and where it stands."""
    rule = course.next()
    if rule is None:
        return Text("All rules of the course pass.", "bold green")
    before = course.once_passed(rule)
    why = {
        AGAIN: "it passed before its check changed: verify it again",
        "failed": "its check fails now; it passed before" if before else "its check fails",
        "blocked": "another rule's TODO stands in its way",
        "not graded": "its topic could not be graded",
    }.get(course.standing(rule), "to do again: it passed before" if before else "not done yet")
    text = Text("next    ", "bold").append(f"{rule.topic} / {rule.id}", "not bold")
    file, _, question = place(workspace, rule).partition("  ")
    return text.append(f"\n{_below(why)}\n{INDENT}{file}\n{_below(question)}", "not bold")


INDENT = " " * 8


def _below(text: str) -> str:
    return textwrap.fill(text, message.WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)


def last(course: Course, current: datetime) -> Text:
    """The last verdict, in a line or two."""
    kept = course.state.last
    if not kept:
        return Text("last    no verdict yet")
    minutes = int((current - datetime.fromisoformat(kept["at"])).total_seconds() // 60)
    ago = "just now" if minutes < 1 else f"{minutes} min ago"
    if minutes >= 120:
        ago = f"{minutes // 60} h ago" if minutes < 2880 else f"{minutes // 1440} days ago"
    sign, style, _ = MARKS[kept["state"]]
    text = Text("last    ", "bold").append(f"{sign} {kept['rule']} {kept['state']}, {ago}", style)
    if kept["text"]:
        text.append(f"\n{outcome(kept['text'])}", "not bold")
    return text


def block(pack: Pack, rule: Rule, *, right: bool) -> Iterator[RenderableType]:
    """The rule as the skill prints it; without its right code where `right` is False."""
    from rich.constrain import Constrain
    from rich.markdown import Markdown  # here: it takes a fifth of a second to load

    lines = pack.skill(rule.topic).read_text(encoding="utf-8").splitlines()
    start = lines.index(f"### {rule.id}") + 1
    ends = [n for n in range(start, len(lines)) if lines[n].startswith(("### ", "## "))]
    yield Text(f"{rule.topic} / {rule.id}\n", "bold")
    prose: list[str] = []
    code: list[str] | None = None
    title = ""
    for line in [*lines[start : ends[0] if ends else None], "```"]:
        if code is None and line.startswith("```"):
            if any(prose):
                yield Constrain(Markdown("\n".join(prose)), PROSE)
                yield Text()
            prose, code = [], []
            title = line.partition('title="')[2].partition('"')[0]
        elif code is not None and line.startswith("```"):
            if right or "right" not in title:
                yield Text(title, "bold red" if title.startswith("wrong") else "bold green")
                yield highlighted("\n".join(code), "python")
            code = None
        else:
            (prose if code is None else code).append(line)


def highlighted(code: str, language: str) -> Text:
    """Code in the terminal's own colours; no line is wrapped or cut."""
    from rich.syntax import Syntax  # here: it loads the languages

    return Syntax("", language, theme="ansi_dark", background_color="default").highlight(code)


def verdict(answer: Answer) -> Text:
    """One rule's verdict as a line."""
    sign, style, _ = MARKS[answer.state]
    return Text(f"{sign} {answer.rule} {answer.state}", style)


def console(*, stderr: bool = False) -> Console:
    """A console that colours only in a terminal, and not where NO_COLOR is set."""
    return Console(highlight=False, markup=False, emoji=False, stderr=stderr)


def relative(path: Path) -> str:
    """A path as a person would type it here."""
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.as_posix()
