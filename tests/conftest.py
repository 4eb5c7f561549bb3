"""A small pack of two topics in a temporary folder, and pytest run on it as a person would."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

collect_ignore = ["demo", "site"]  # site: see `make site`
HERE = Path(__file__).parent
ACTIVATED = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A copy of the demonstration pack; `sub` is a folder to grade, which holds its solutions."""
    folder = tmp_path / "pack"
    shutil.copytree(HERE / "demo", folder)
    shutil.copy(HERE.parent / "pyproject.toml", folder)
    shutil.copytree(folder / "solutions", folder / "sub")
    return folder


@pytest.fixture
def run(pack: Path) -> Run:
    """``run("--target=sub")``: what ``pytest checks/ --target=sub`` printed, and its status."""

    def run(*arguments: str, checks: str = "checks/") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", checks, *arguments]
        return subprocess.run(
            command,
            cwd=pack,
            env=ACTIVATED,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def edit(file: Path, old: str, new: str) -> None:
    """Replaces text that stands in a file exactly once."""
    text = file.read_text()
    assert text.count(old) == 1, f"{file} has {text.count(old)} of {old!r}"
    file.write_text(text.replace(old, new))
