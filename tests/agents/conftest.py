"""A clean clone of the repository, and others' programs run as on a new machine."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".venv-agents"
PLACES = [TOOLS / "bin", TOOLS / "node_modules" / ".bin"]
QUIET = {"DISABLE_TELEMETRY": "1", "DISABLE_AUTOUPDATER": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1"}
COLOUR = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
Run = Callable[..., str]


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    """Says what to do where the clients are not there."""
    if not (TOOLS / "ready").is_file():
        pytest.exit(f"{TOOLS} is not made: run make prove-agents", returncode=1)


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean clone of what is committed, under a name without the repository's own."""
    folder = tmp_path_factory.mktemp("clean") / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    return folder


@pytest.fixture(scope="session")
def topics(clone: Path) -> list[str]:
    """The names of the skills that clients must show."""
    names = sorted(file.parent.name for file in clone.glob("skills/*/SKILL.md"))
    assert names, "skills/ holds no topic: nothing was tested"
    return names


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The empty git repository of somebody who installs the skills."""
    folder = tmp_path / "shop"
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    return folder


@pytest.fixture
def run(tmp_path: Path, project: Path) -> Run:
    """``run("codex", "--version")``: what a program printed, in a home of its own without a login.

    It runs in `project` where `cwd` does not say otherwise, and must end with status 0.
    """
    home = tmp_path / "home"
    home.mkdir()
    path = os.pathsep.join([*map(str, PLACES), os.environ["PATH"]])

    def run(*command: object, cwd: Path = project, **variables: str) -> str:
        with (tmp_path / "said").open("w+") as said:  # OpenCode ends before a pipe took it all
            ran = subprocess.run(
                [str(word) for word in command],
                cwd=cwd,
                env={"HOME": str(home), "PATH": path, "TERM": "dumb"} | QUIET | variables,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.PIPE,
                text=True,
                timeout=300,
                check=False,
            )
            said.seek(0)
            output = COLOUR.sub("", said.read())
        assert ran.returncode == 0, f"{command} ended with {ran.returncode}: {output}{ran.stderr}"
        return output

    return run
