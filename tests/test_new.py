"""`proven new` lays out what the proof then asks to be written."""

from pathlib import Path

import pytest
from conftest import Proven, Run


def test_the_proof_asks_for_what_is_laid_out(pack: Path, proven: Proven, run: Run) -> None:
    topic = proven("new", "topic", "stock-counts")
    rule = proven("new", "rule", "stock-counts", "count-once")
    proof = run("--prove", checks="checks/test_stock-counts.py").stdout

    assert [topic.returncode, rule.returncode] == [0, 0]
    named = [line.split("  ")[0] for line in (topic.stdout + rule.stdout).splitlines()]
    files = [pack / name for name in named if not name.startswith("What is missing")]
    assert [file for file in files if not file.is_file()] == []
    assert "0 TODOs of count-once" in proof
    assert "count-once has 1 wrongs: print at least two" in proof
    assert "this right stands 0 times in the solution" in proof


def test_a_topic_comes_last_in_the_course(pack: Path, proven: Proven) -> None:
    proven("new", "topic", "stock-counts")

    assert (pack / "mkdocs.yml").read_text().count("stock-counts.md") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("topic", "orders"), "there is a topic orders already"),
        (("topic", "Stock Counts"), "is not in kebab-case"),
        (("rule", "orders", "add-the-tax"), "prices has a rule add-the-tax already"),
        (("rule", "order", "count-once"), "no topic is called order"),
    ],
)
def test_what_cannot_be_laid_out_is_said(
    pack: Path, proven: Proven, arguments: tuple[str, ...], sentence: str
) -> None:
    before = {file: file.read_bytes() for file in pack.rglob("*") if file.is_file()}

    result = proven("new", *arguments)

    assert sentence in result.stderr
    assert result.returncode == 2
    assert {file: file.read_bytes() for file in pack.rglob("*") if file.is_file()} == before
