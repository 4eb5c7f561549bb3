"""A judge that is not there, or that was given nothing, is a fault and no pass."""

from importlib import import_module
from pathlib import Path

import pytest

from proven_backend import agents, judges
from proven_backend.pack import Pack


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without the judges."""

    def absent(name: str) -> object:
        raise ModuleNotFoundError(name)

    for module in (agents, judges):
        monkeypatch.setattr(module, "import_module", absent)
    monkeypatch.setattr(judges.sysconfig, "get_path", lambda _: str(tmp_path))
    agents._encode.cache_clear()


def faults(name: str, pack: Path) -> list[str]:
    return list(judges.PACK_TESTS[name](Pack(pack)))


@pytest.mark.usefixtures("bare")
def test_a_judge_that_is_not_installed_is_a_fault(pack: Path) -> None:
    install = "pip install -e '.[dev]'"

    assert faults("agnix-finds-nothing", pack) == [f"agnix is not installed: {install}"]
    assert faults("skills-are-short", pack) == [f"tokens cannot be counted: {install}"]
    assert faults("docs-are-current", pack) == [f"tokens cannot be counted: {install}"]
    assert faults("skills-follow-the-specification", pack) == [
        f"{topic}: skills-ref is not installed: {install}" for topic in ("orders", "prices")
    ]


def test_a_judge_that_read_nothing_is_a_fault(pack: Path) -> None:
    for file in pack.glob("skills/*/SKILL.md"):
        file.unlink()

    assert faults("skills-are-short", pack) == ["skills/ holds no topic: nothing was tested"]
    assert "skills/ holds no topic" in faults("skills-follow-the-specification", pack)[0]
    (pack / ".claude-plugin" / "marketplace.json").unlink()
    assert faults("agnix-finds-nothing", pack) == ["agnix read 0 files for 0 skills"]


def test_an_index_that_is_too_long_is_a_fault(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "MOST_BYTES", 100)

    assert "bytes: 100 are the most" in faults("skills-are-short", pack)[0]


def test_tokens_are_those_of_o200k_base() -> None:
    assert agents.tokens("hello world, said the snake_case_name") == 8
    assert (
        import_module("bpe_openai").get_encoding("o200k_base").decode([24912, 2375])
        == "hello world"
    )
