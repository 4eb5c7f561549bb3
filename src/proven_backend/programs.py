"""Programs: the sources that a check can be run on, as text.

A submission, the stub and the solution are read from folders; counter-examples, also-rights, steps
and hollow apps are made from the solution and the stub. None of them is imported here.
"""

import ast
import difflib
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import decode_source
from pathlib import Path

from proven_backend.pack import Pack, PackError, Rule, Snippet, todos

Sources = dict[str, str]
SUFFIXES = {".py", ".toml", ".ini", ".mako"}
ROUTES = {"get", "post", "put", "patch", "delete", "head", "options", "api_route"}
KEPT = {"create_app"}
NEEDED = ("create_app", "Base")


@dataclass(frozen=True)
class Program:
    """The sources of one topic under grade, and the folder that messages show them in.

    `needs` are the names without which none of its checks can begin.
    """

    topic: str
    name: str
    sources: Sources
    folder: str
    needs: tuple[str, ...] = ()


def read(folder: Path) -> Sources:
    """The Python, TOML, INI and Mako files of a folder as text, by their path relative to it.

    Hidden folders are left out. Raises PackError with a sentence where a file cannot be read as
    text or is a link that leads out of the folder.
    """
    sources = {}
    for file in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if hidden or file.suffix not in SUFFIXES or not file.is_file():
            continue
        if not file.resolve().is_relative_to(folder.resolve()):
            raise PackError(f"{file} is a link that leads out of its folder: put a real file there")
        try:
            sources[file.relative_to(folder).as_posix()] = decode_source(file.read_bytes())
        except (UnicodeDecodeError, SyntaxError, OSError) as error:
            raise PackError(f"{file} cannot be read as text: {error}") from None
    return sources


def original(pack: Pack, kind: str, topic: str) -> Program:
    """The topic's stub (kind "exercises") or solution (kind "solutions")."""
    name = {"exercises": "stub", "solutions": "solution"}[kind]
    task = pack.task(kind, topic)
    tree = ast.parse(task.read_text() if task.is_file() else "")
    named = {name for node in tree.body for name in _names(node)}
    needs = tuple(name for name in NEEDED if name in named)
    return Program(topic, name, read(pack.root / kind / topic), f"{kind}/{topic}", needs)


def _names(node: ast.stmt) -> Iterator[str]:
    """The names that a statement of a module defines or imports."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in node.names)


def variant(program: Program, name: str, sources: Sources) -> Program:
    """The same topic with other sources; its files are shown under a name of their own."""
    return Program(program.topic, name, sources, f"<{program.topic} {name}>")


def _places(text: str, code: str) -> Iterator[tuple[int, int, str]]:
    """Where `code` stands in `text` as whole lines: first line, end, its indentation there."""
    lines, wanted = text.splitlines(), code.splitlines()
    for start in range(len(lines) - len(wanted) + 1):
        first = lines[start]
        indent = first[: len(first) - len(first.lstrip())]
        here = [line.removeprefix(indent) for line in lines[start : start + len(wanted)]]
        if here == wanted and all(
            line.startswith(indent) or not line for line in lines[start : start + len(wanted)]
        ):
            yield start, start + len(wanted), indent


def replace(sources: Sources, right: Snippet, other: Snippet) -> Sources:
    """The sources with `other` in the place of `right`.

    Raises PackError unless `right` stands in them exactly once, as whole lines.
    """
    found = [
        (file, *place) for file, text in sources.items() for place in _places(text, right.code)
    ]
    if len(found) != 1:
        raise PackError(
            f"{right.where}: this right stands {len(found)} times in the solution, as whole lines; "
            "it must stand there exactly once: make the two agree"
        )
    file, start, end, indent = found[0]
    lines = sources[file].splitlines()
    lines[start:end] = textwrap.indent(other.code, indent).splitlines()
    return sources | {file: "\n".join(lines) + "\n"}


@dataclass(frozen=True)
class Hunk:
    """Lines [start, end) of a stub's file, what the solution has there, and whose TODO it is."""

    file: str
    start: int
    end: int
    lines: list[str]
    rule: str | None


def hunks(stub: Program, solution: Program) -> list[Hunk]:
    """How the solution differs from the stub, each hunk with its rule (None: imports on top).

    A hunk belongs to the last TODO at or above it. Raises PackError where that is not clear.
    """
    if stub.sources.keys() != solution.sources.keys():
        odd = sorted(stub.sources.keys() ^ solution.sources.keys())
        raise PackError(
            f"{stub.topic}: only one of stub and solution has {', '.join(odd)}: add the other"
        )
    found = []
    for file, text in stub.sources.items():
        old, new = text.splitlines(), solution.sources[file].splitlines()
        marks = todos({file: text})
        for tag, start, end, left, right in difflib.SequenceMatcher(
            None, old, new, autojunk=False
        ).get_opcodes():
            if tag == "equal":
                continue
            inside = [mark for mark in marks if start < mark.line <= end]
            if len(inside) > 1:
                raise PackError(
                    f"{stub.folder}/{file}:{start + 1}: "
                    f"{inside[0].rule} and {inside[1].rule} have one "
                    "hunk of the difference to the solution: keep an equal line between them"
                )
            above = [mark for mark in marks if mark.line <= start]
            mark = next(iter(inside or above[-1:]), None)
            if mark is None and not _only_imports(old[start:end] + new[left:right]):
                raise PackError(
                    f"{stub.folder}/{file}:{start + 1}: differs from the solution above its first "
                    "TODO: only imports may"
                )
            found.append(Hunk(file, start, end, new[left:right], mark.rule if mark else None))
    return found


def _only_imports(lines: list[str]) -> bool:
    return all(re.fullmatch(r"((import|from) .*|    \w+( as \w+)?,|\))?", line) for line in lines)


def step(stub: Program, solution: Program, solved: Iterable[str]) -> Program:
    """The stub with the hunks of the given rules applied."""
    done = {None, *solved}
    sources = {file: text.splitlines() for file, text in stub.sources.items()}
    for hunk in reversed(hunks(stub, solution)):
        if hunk.rule in done:
            sources[hunk.file][hunk.start : hunk.end] = hunk.lines
    texts = {file: "\n".join(lines) + "\n" for file, lines in sources.items()}
    return variant(stub, f"step {len(done) - 1}", texts)


def swaps(solution: Program, rule: Rule, kind: str) -> Iterator[tuple[Snippet, Program]]:
    """The solution with each "wrong" (or "also right") of a rule in the place of its right."""
    number = 0
    for pair in rule.pairs:
        if pair.right is None:
            raise PackError(
                f"{pair.wrongs[0].where}: {rule.id} has a wrong without a right: add it below"
            )
        for snippet in pair.wrongs if kind == "wrong" else pair.also:
            number += 1
            sources = replace(solution.sources, pair.right, snippet)
            yield snippet, variant(solution, f"{rule.id} {kind} {number}", sources)


def hollow(solution: Program, result: str) -> Program:
    """The solution with every function emptied: routes answer 500, others return `result`.

    Files that are not Python are empty.
    """
    sources = {
        file: ast.unparse(_Hollow(result).visit(ast.parse(text))) if file.endswith(".py") else ""
        for file, text in solution.sources.items()
    }
    return variant(solution, f"hollow {result}", sources)


class _Hollow(ast.NodeTransformer):
    def __init__(self, result: str) -> None:
        self.empty = ast.parse(f"return {result}").body
        self.fail = ast.parse("from fastapi import HTTPException as E\nraise E(500)").body

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        dunder = node.name.startswith("__")
        yields = any(isinstance(part, ast.Yield) for part in ast.walk(node))
        if node.name in KEPT or dunder or (yields and not _is_route(node)):
            return self.generic_visit(node)
        node.body = self.fail if _is_route(node) else self.empty
        return node


def _is_route(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(
        isinstance(mark, ast.Call)
        and isinstance(mark.func, ast.Attribute)
        and mark.func.attr in ROUTES
        for mark in node.decorator_list
    )
