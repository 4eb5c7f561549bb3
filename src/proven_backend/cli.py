"""The command ``proven``: hints for a rule, and the generated pages."""

import argparse
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from proven_backend import generate, message
from proven_backend.pack import Pack, PackError, Rule

LEVELS = 4


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, or 2 with a sentence where it cannot."""
    parser = argparse.ArgumentParser(prog="proven", description="Help with the rules of the pack.")
    commands = parser.add_subparsers(dest="command", required=True)
    hint = commands.add_parser("hint", help="a hint for a rule: four levels, from question to code")
    hint.add_argument("rule", nargs="+", metavar="[TOPIC] RULE [LEVEL]")
    commands.add_parser("generate", help="write the pages that are made from the skills")
    options = parser.parse_args(arguments)
    try:
        pack = _pack(Path.cwd())
        if options.command == "generate":
            for file in generate.write(pack):
                print(f"wrote {file.relative_to(pack.root)}")
        else:
            print(hint_text(pack, options.rule))
    except PackError as fault:
        print(f"proven: {fault}", file=sys.stderr)
        return 2
    return 0


def _pack(folder: Path) -> Pack:
    for place in (folder, *folder.parents):
        if (place / "skills").is_dir() and (place / "checks").is_dir():
            return Pack(place)
    raise PackError(f"{folder} is not in a checkout of the pack: change into one")


def hint_text(pack: Pack, words: list[str]) -> str:
    """The hint that ``[TOPIC] RULE [LEVEL]`` asks for, and how to get the next one.

    Raises PackError where no rule has that name.
    """
    level = int(words.pop()) if words[-1] in {"1", "2", "3", "4"} and len(words) > 1 else 1
    rule = _find(pack, words[-1])
    text = _LEVELS[level - 1](pack, rule)
    call = f"{message.command('proven')} hint {rule.topic} {rule.id}"
    more = f"\n\nmore: {call} {level + 1}" if level < LEVELS else ""
    return f"{rule.topic} / {rule.id} (hint {level} of {LEVELS})\n\n{text}{more}"


def _find(pack: Pack, name: str) -> Rule:
    rules = [rule for topic in pack.topics() for rule in pack.rules(topic)]
    for rule in rules:
        if rule.id == name:
            return rule
    close = [rule.id for rule in rules if set(name.split("-")) & set(rule.id.split("-"))][:5]
    near = f": is it one of {', '.join(close)}?" if close else ""
    raise PackError(f"no rule is called {name}{near}")


def _question(pack: Pack, rule: Rule) -> str:
    todo = message.todo_of(pack, rule)
    seen = _seen(pack, rule)
    return (todo.question if todo else rule.sentence) + (f"\n\n{seen}" if seen else "")


def _seen(pack: Pack, rule: Rule) -> str:
    """What the rule's check sees in the code under grade now."""
    said = _Said()
    check = f"{pack.checks(rule.topic)}::{rule.check}"
    with redirect_stdout(StringIO()):
        pytest.main(["--rootdir", str(pack.root), check], plugins=[said])
    return said.text


class _Said:
    text = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keeps from the failure what was done and seen."""
        if report.failed and "\nexpected " in str(report.longrepr):
            self.text = str(report.longrepr).partition("\nexpected ")[0].partition("\n")[2]


def _sentence(_pack: Pack, rule: Rule) -> str:
    return f"{rule.sentence}\n{rule.reason}"


def _code(rule: Rule, kind: str) -> str:
    pair = rule.pairs[0]
    snippet = pair.wrongs[0] if kind == "wrong" else pair.right
    assert snippet is not None
    return f"{kind}:\n\n{snippet.code}"


def _wrong(_pack: Pack, rule: Rule) -> str:
    return _code(rule, "wrong")


def _right(_pack: Pack, rule: Rule) -> str:
    return _code(rule, "right")


_LEVELS = (_question, _sentence, _wrong, _right)


if __name__ == "__main__":
    sys.exit(main())
