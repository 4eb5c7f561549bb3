"""The whole service: its inherited tests are green, and its skill leads to every other one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from proven_backend.pack import Pack

ROOT = Path(__file__).parent.parent
TOPIC = "layered-backend"


@pytest.mark.parametrize("kind", ["exercises", "solutions"])
def test_the_inherited_tests_pass(kind: str, tmp_path: Path) -> None:
    project = tmp_path / TOPIC
    shutil.copytree(ROOT / kind / TOPIC, project)

    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout
    assert "6 passed" in result.stdout


def test_the_skill_says_when_to_read_each_other_skill() -> None:
    pack = Pack(ROOT)
    rows = [line for line in pack.skill(TOPIC).read_text().splitlines() if line.startswith("| ")]
    read = [topic for topic in pack.topics() if any(f"| `{topic}` |" in row for row in rows)]

    assert read == [topic for topic in pack.topics() if topic != TOPIC]
