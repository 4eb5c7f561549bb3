"""The pack as data: its topics, and the rules that their skills print.

A topic is a folder in ``skills/``; a rule is an H3 heading in its SKILL.md. References hold more
pairs of the same rules. Nothing here runs code.
"""

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it.token import Token

NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
MARKS = {"postgresql": "postgresql_only", "sqlite": "sqlite_only"}
TOO = "on_postgresql_too"  # races, locks, types and constraints: the databases differ there
TODO = re.compile(r"^\s*# TODO ([a-z0-9-]+): (.+)$")
FRONTMATTER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
TITLE = re.compile(r'title="(wrong|right|also right)(?: on (PostgreSQL|SQLite|Valkey)( too)?)?"')


class PackError(Exception):
    """Something in the pack contradicts itself: a sentence with file, rule and what to do."""


@dataclass(frozen=True)
class Snippet:
    """The code of one fence, and the only server that can judge it (None: any database).

    `real` is for the checks with real processes: it says "on Valkey", or "on Valkey too".
    """

    kind: str
    server: str | None
    real: bool
    code: str
    where: str


@dataclass
class Pair:
    """The wrongs that go in the place of one right, and the other designs that may."""

    wrongs: list[Snippet] = field(default_factory=list)
    right: Snippet | None = None
    also: list[Snippet] = field(default_factory=list)


@dataclass
class Rule:
    """One rule: its heading's id, bold sentence, reason and pairs, in the order of the text."""

    topic: str
    id: str
    where: str
    sentence: str = ""
    reason: str = ""
    pairs: list[Pair] = field(default_factory=list)

    @property
    def check(self) -> str:
        """The name of the function that checks it."""
        return "test_" + self.id.replace("-", "_")


@dataclass(frozen=True)
class Todo:
    """A TODO line of a stub: which rule it stands for and what it asks."""

    rule: str
    question: str
    file: str
    line: int


@dataclass(frozen=True)
class Pack:
    """A checkout of the pack, by its root folder."""

    root: Path

    def topics(self) -> list[str]:
        """The names of all topics, in the order of the course (the nav in mkdocs.yml)."""
        nav = self.root / "mkdocs.yml"
        course = re.findall(
            r"([a-z0-9-]+)\.md$", nav.read_text() if nav.is_file() else "", re.MULTILINE
        )
        place = {name: number for number, name in enumerate(course)}
        names = {file.parent.name for file in self.root.glob("skills/*/SKILL.md")}
        return sorted(names, key=lambda name: (place.get(name, len(place)), name))

    def skill(self, topic: str) -> Path:
        """Where the topic's rules stand."""
        return self.root / "skills" / topic / "SKILL.md"

    def description(self, topic: str) -> str:
        """What a client shows of a skill before it loads it; PackError where there is none."""
        head = FRONTMATTER.match(self.skill(topic).read_text())
        line = re.search(r"^description: (.+)$", head[1], re.MULTILINE) if head else None
        if not line:
            raise PackError(f"skills/{topic}/SKILL.md: its head has no description: write it")
        return line[1]

    def task(self, kind: str, topic: str) -> Path:
        """The file of a stub or solution (kind "exercises", "solutions") that holds the task."""
        folder = self.root / kind / topic
        module = folder / "app.py"
        return module if module.is_file() else folder / "app" / "__init__.py"

    def checks(self, topic: str) -> Path:
        """Where the topic's checks stand."""
        return self.root / "checks" / f"test_{topic}.py"

    def real_checks(self, topic: str) -> Path:
        """Where checks stand that start real processes, if there are any."""
        return self.root / "checks" / f"real_{topic}.py"

    def forget(self) -> None:
        """Reads everything anew from now on: the files changed."""
        _rules.cache_clear()
        check_digests.cache_clear()

    def rules(self, topic: str) -> list[Rule]:
        """The topic's rules in the order in which they are learned.

        Raises PackError where a heading or fence breaks the grammar.
        """
        return _rules(self.root, topic)

    def rule(self, topic: str, rule: str) -> Rule:
        """One rule of a topic; PackError where the skill has no such heading."""
        for found in self.rules(topic):
            if found.id == rule:
                return found
        raise PackError(f"skills/{topic}/SKILL.md has no heading '### {rule}': add it")


@cache
def _rules(root: Path, topic: str) -> list[Rule]:
    skill = root / "skills" / topic / "SKILL.md"
    if not skill.is_file():
        raise PackError(f"skills/{topic}/SKILL.md is missing: write it")
    rules = list(_read(root, topic, skill))
    by_id = {rule.id: rule for rule in rules}
    if len(by_id) < len(rules):
        raise PackError(f"skills/{topic}/SKILL.md has a rule twice: keep one heading of each name")
    for reference in sorted(skill.parent.glob("references/*.md")):
        for more in _read(root, topic, reference):
            if more.id not in by_id:
                raise PackError(
                    f"{more.where}: SKILL.md has no rule '{more.id}': "
                    "name the heading as there, or make it an H2"
                )
            by_id[more.id].pairs += more.pairs
    return rules


def _read(root: Path, topic: str, file: Path) -> Iterator[Rule]:
    """The rules of one Markdown file, with where each stands."""
    relative = file.relative_to(root).as_posix()
    text = re.sub(
        r"\A---\n.*?\n---\n", lambda m: "\n" * m[0].count("\n"), file.read_text(), flags=re.DOTALL
    )
    from markdown_it import MarkdownIt  # here: grading code that passes does not need it

    tokens = MarkdownIt().parse(text)
    rule: Rule | None = None
    for number, token in enumerate(tokens):
        where = f"{relative}:{token.map[0] + 1}" if token.map else relative
        if token.type == "heading_open":
            if rule:
                yield rule
            title = tokens[number + 1].content
            rule = Rule(topic, title, where) if token.tag == "h3" else None
        elif token.type == "fence":
            _add_fence(rule, token, where)
        elif token.type == "inline" and rule and not rule.pairs:
            _add_text(rule, token)
    if rule:
        yield rule


def _add_text(rule: Rule, token: "Token") -> None:
    if token.content == rule.id:
        return
    text = " ".join(token.content.split())
    bold = re.match(r"\*\*(.+?)\*\*\s*(.*)", text)
    if bold and not rule.sentence:
        rule.sentence, text = bold.groups()
    rule.reason = f"{rule.reason} {text}".strip()


def _add_fence(rule: Rule | None, token: "Token", where: str) -> None:
    title = TITLE.search(token.info)
    if not title:
        return
    if rule is None:
        raise PackError(f"{where}: {title[0]} stands under no rule: put it under its H3")
    server = None if title[3] else title[2]
    snippet = Snippet(title[1], server, title[2] == "Valkey", token.content, where)
    last = rule.pairs[-1] if rule.pairs else None
    if snippet.kind == "wrong":
        if last is None or last.right:
            last = Pair()
            rule.pairs.append(last)
        last.wrongs.append(snippet)
    elif last is None or not last.wrongs:
        raise PackError(f"{where}: '{snippet.kind}' of {rule.id} has no wrong above it: add it")
    elif snippet.kind == "also right":
        if last.right is None:
            raise PackError(f"{where}: {rule.id} has 'also right' before its right: swap them")
        last.also.append(snippet)
    elif last.right:
        raise PackError(
            f"{where}: a second right of {rule.id} without a wrong of its own: add the wrong"
        )
    else:
        last.right = snippet


def todos(sources: dict[str, str]) -> list[Todo]:
    """The TODO lines of a program's files, in order; lines count from 1."""
    return [
        Todo(match[1], match[2], file, number)
        for file, text in sources.items()
        for number, line in enumerate(text.splitlines(), 1)
        if (match := TODO.match(line))
    ]


def check_names(file: Path) -> list[str]:
    """The names of the check functions in a file, in order, without importing it."""
    tree = ast.parse(file.read_text())
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    ]


@cache
def check_digests(file: Path) -> dict[str, str]:
    """A digest of each check by name: it changes with the function or with what the checks share.

    The file is not imported. Raises PackError where it cannot be read.
    """
    parts = {"": ""}
    try:
        text = file.read_text()
        tree = ast.parse(text)
    except (OSError, SyntaxError, ValueError) as error:
        raise PackError(f"{file} cannot be read: {error}: mend it, or pull again") from None
    for node in tree.body:
        source = ast.get_source_segment(text, node) or ""
        name = getattr(node, "name", "")
        if name.startswith("test_"):
            parts[name] = source
        else:
            parts[""] += source + "\n"
    shared = parts.pop("")
    return {
        name: hashlib.sha256((shared + source).encode()).hexdigest()[:16]
        for name, source in parts.items()
    }
