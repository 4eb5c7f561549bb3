"""A wheel of a clean clone carries the skills and the command, and no solution in the skills."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

Run = Callable[..., str]
INSIDE = "proven_backend/.agents/skills/"


@pytest.fixture
def wheel(clone: Path, tmp_path: Path, run: Run) -> Path:
    """Built the long way: a source distribution, and a wheel from that."""
    run("pyproject-build", "--outdir", tmp_path / "dist", cwd=clone)
    return next(tmp_path.glob("dist/*.whl"))


def test_a_wheel_carries_the_skills_and_the_command(
    clone: Path, topics: list[str], wheel: Path, project: Path, run: Run
) -> None:
    names = [name for name in ZipFile(wheel).namelist() if name.startswith(INSIDE)]
    ours = [file.relative_to(clone) for file in clone.glob("skills/**/*") if file.is_file()]

    assert sorted(names) == sorted(
        f"proven_backend/.agents/{file.as_posix()}" for file in ours if "evals" not in file.parts
    )

    run(sys.executable, "-m", "venv", ".venv")
    run(".venv/bin/pip", "install", "-c", clone / "constraints.txt", wheel)
    (project / "pyproject.toml").write_text(
        '[project]\nname = "shop"\nversion = "1"\ndependencies = ["proven-backend"]\n'
    )
    found = json.loads(run("library-skills", "scan", "--json"))["skills"]

    assert sorted(skill["name"] for skill in found) == topics

    run("library-skills", "install", "--all", "--yes")

    linked = {link.name for link in (project / ".agents" / "skills").iterdir()}
    assert set(topics) <= linked  # other packages bring skills, too

    command, course = project / ".venv" / "bin" / "proven", project / "course"
    run(command, "start", course, cwd=clone)

    assert "✓ The workspace is" in run(command, "doctor", cwd=course)
