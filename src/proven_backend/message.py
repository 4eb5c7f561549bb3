"""What a failed check says to the person who has to mend the code."""

import ast
import os
import re
import shutil
import sys
import textwrap
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from proven_backend.pack import Pack, Rule, Todo, todos
from proven_backend.programs import Program, original
from proven_backend.verdict import Verdict

WIDTH = max(60, min(100, shutil.get_terminal_size((100, 25)).columns))
LABEL = 10
CheckFunction = ast.AsyncFunctionDef | ast.FunctionDef
LINES, DONE, SEEN, SHORT = 25, 5, 7, 120


def state(verdict: Verdict, rule: str, program: Program) -> str:
    """ "passed", "failed", "not started", or the rule that blocks it."""
    if verdict.passed:
        return "passed"
    for file, line in verdict.unfinished:
        above = [t for t in todos({file: program.sources.get(file, "")}) if t.line <= line]
        if above:
            return "not started" if above[-1].rule == rule else above[-1].rule
    return "failed"


def command(name: str) -> str:
    """How to call a command of this environment from the current folder."""
    here = Path(sys.executable).with_name(name)
    return name if shutil.which(name) == str(here) else os.path.relpath(here)


def explain(pack: Pack, rule: Rule, program: Program, verdict: Verdict) -> str:
    """The whole message of a failed check, at most 25 lines: the reason fills what is left."""
    function = check_function(pack.checks(rule.topic), rule.check)
    action = _action(function, verdict)
    parts = {
        "done": _done(pack.checks(rule.topic), action),
        "seen": seen(verdict, action, function),
        "expected": _paragraph(ast.get_docstring(function) or "", 2),
        "why": [],
        "where": _paragraph(where(pack, rule, program, verdict), 2),
        "next": [f"{command('proven')} hint {rule.id}"],
        "printed": _fold(verdict.printed.strip().splitlines(), 2),
    }
    room = LINES - 1 - sum(map(len, parts.values()))
    parts["why"] = _paragraph(f"{rule.sentence} {rule.reason}", room)
    lines = [f"{rule.topic} / {rule.id}"]
    for label, body in parts.items():
        for number, line in enumerate(body):
            start = f"{label if not number else '':<{LABEL}}"
            whole = label == "done" or line.lstrip().startswith("crashed")
            lines.append((start + (line if whole else cut(line, WIDTH - LABEL))).rstrip())
    return "\n".join(lines)


@cache
def check_function(file: Path, name: str) -> CheckFunction:
    """The syntax tree of a check function."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and node.name == name:
            return node
    raise LookupError(f"{file} has no function {name}")


def _action(function: CheckFunction, verdict: Verdict) -> ast.stmt | None:
    """The statement of the check that led to its failure.

    For a failed assert the last one before it that made the app act and bound a name of the
    assert, directly or by way of others; one in which the app crashed goes first.
    """
    before: list[ast.stmt] = []
    for statement in function.body:
        if not _has(statement, verdict.line):
            before += [statement] if not isinstance(statement, ast.Assert) else []
        elif isinstance(statement, ast.Assert):
            busy = [s for s in before if any(_has(s, line) for *_, line in verdict.events)]
            crashed = [line for kind, _, line in verdict.events if kind == "crash"]
            used = _names(statement.test, ast.Load)
            for each in reversed(before):
                if used & _names(each, ast.Store) and each not in busy:
                    used |= _names(each, ast.Load)
            meant = [s for s in busy if used & _names(s, ast.Store)]
            worst = [s for s in meant if any(_has(s, line) for line in crashed)]
            return (worst or meant or busy or before or [statement])[-1]
        else:
            return statement
    return None


def _names(node: ast.AST, context: type[ast.expr_context]) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, context)}


def _has(statement: ast.stmt, line: int) -> bool:
    return statement.lineno <= line <= (statement.end_lineno or 0)


def _done(file: Path, action: ast.stmt | None) -> list[str]:
    if action is None:
        return ["started the check"]
    lines = file.read_text().splitlines()[action.lineno - 1 : action.end_lineno]
    return _fold(textwrap.dedent("\n".join(lines)).splitlines(), DONE)


def seen(verdict: Verdict, action: ast.stmt | None, function: CheckFunction) -> list[str]:
    """What the app did during the action, folded, and what was wrong with it."""
    first, last = (action.lineno, action.end_lineno or 0) if action else (0, 0)
    told = [(kind, text) for kind, text, line in verdict.events if first <= line <= last]
    lines: list[str] = []
    for kind, text in told:
        word = text if kind != "request" else f"{text}"
        joins = lines and kind in _SHORT and lines[-1].startswith("  ") and "<" not in lines[-1]
        if kind == "request":
            lines.append(word)
        elif joins and len(lines[-1]) + len(word) + 3 <= WIDTH - LABEL:
            lines[-1] += f" · {word}"
        else:
            lines.append(f"  {word}")
    counted = [(line, len(list(group))) for line, group in groupby(lines)]
    story = [line if count == 1 else f"{line}  (x {count})" for line, count in counted]
    return [*_fold(story, SEEN), *_ending(verdict, function)]


_SHORT = {"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "ROLLBACK TO", "sql"}


def _ending(verdict: Verdict, function: CheckFunction) -> list[str]:
    at = f" at {verdict.where}" if verdict.where else ""
    if verdict.kind != "assertion":
        return _paragraph(f"{verdict.message}{at}", 2)
    said, _, test = f"\n{verdict.message}".partition("\nassert ")
    compared = next(iter(test.splitlines()), "")
    if not compared.startswith("seen "):
        failed = [
            a.test
            for a in ast.walk(function)
            if isinstance(a, ast.Assert) and _has(a, verdict.line)
        ]
        compared = f"not so: {ast.unparse(failed[0])}" if failed and not said else ""
    return _paragraph(": ".join(part for part in (compared, " ".join(said.split())) if part), 4)


def compared(left: object, operator: str, right: object) -> list[str] | None:
    """The words for a failed comparison in an assert; of what is long, only what differs."""
    if operator == "==":
        if max(len(repr(left)), len(repr(right))) > SHORT:
            left, right = _differing(left, right), _differing(right, left)
        return [f"seen {_short(left)}, expected {_short(right)}"]
    return [f"seen {_short(left)}, expected it {operator} {_short(right)}"]


def _differing(value: Any, other: Any) -> Any:
    """The part of a dict or list that another one has not, or not like this."""
    if isinstance(value, dict) and isinstance(other, dict):
        return {
            key: _differing(each, other[key]) if key in other else each
            for key, each in value.items()
            if key not in other or each != other[key]
        }
    if isinstance(value, list) and isinstance(other, list):
        odd = [each for each in value if value.count(each) != other.count(each)]
        same = all(other.count(each) == value.count(each) for each in [*value, *other])
        return value if same else odd
    return value


def cut(line: str, width: int) -> str:
    """A line that is too long, ended with an ellipsis."""
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= SHORT else text[:80] + " … " + text[-36:]


def where(pack: Pack, rule: Rule, program: Program, verdict: Verdict) -> str:
    """file:line of the rule's TODO and its question; once it is gone, of the code in its place."""
    for todo in todos(program.sources):
        if todo.rule == rule.id:
            return f"{shown(program, todo.file)}:{todo.line}  TODO: {todo.question}"
    if verdict.where:
        return shown(program, verdict.where)
    place = _scope(pack, rule)
    if place is None:
        return shown(program, "app.py")
    file, name = place
    line = _line_of(program.sources.get(file, ""), name)
    return f"{shown(program, file)}:{line}  {name or 'at the top'}"


def shown(program: Program, file: str) -> str:
    """How a file of a program is named to a person: relative to the current folder if below it."""
    path = Path(program.folder) / file
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.as_posix()


def todo_of(pack: Pack, rule: Rule) -> Todo | None:
    """The TODO of a rule in the pack's own stub."""
    stub = original(pack, "exercises", rule.topic)
    return next((t for t in todos(stub.sources) if t.rule == rule.id), None)


def _scope(pack: Pack, rule: Rule) -> tuple[str, str] | None:
    """The file and the function or class in which the stub has the rule's TODO."""
    stub, todo = original(pack, "exercises", rule.topic), todo_of(pack, rule)
    if todo is None:
        return None
    below = stub.sources[todo.file].splitlines()[todo.line :]
    head = next((m for line in below[:3] if (m := _HEAD.match(line))), None)
    if head and (head[1] or not below[0].startswith(" ")):
        return todo.file, head[1] or head[2]
    around = [
        node
        for node in ast.walk(ast.parse(stub.sources[todo.file]))
        if isinstance(node, _SCOPES) and node.lineno <= todo.line <= (node.end_lineno or 0)
    ]
    return todo.file, max(around, key=lambda node: node.lineno).name if around else ""


_HEAD = re.compile(r"\s*(?:(?:async def|def|class) (\w+)|(\w+)(?:: .+?)? = )")
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _line_of(text: str, name: str) -> int:
    for number, line in enumerate(text.splitlines(), 1):
        head = _HEAD.match(line)
        if head and name in head.groups():
            return number
    return 1


def _paragraph(text: str, most: int) -> list[str]:
    return textwrap.wrap(text, WIDTH - LABEL, max_lines=max(most, 2), placeholder=" …")


def _fold(lines: list[str], most: int) -> list[str]:
    if len(lines) <= most:
        return lines
    head = most // 2
    tail = most - head - 1
    return [
        *lines[:head],
        f"… {len(lines) - head - tail} more lines …",
        *lines[len(lines) - tail :],
    ]
