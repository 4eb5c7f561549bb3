"""The tests that a learner inherits with the whole service are green, before and after."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("kind", ["exercises", "solutions"])
def test_the_inherited_tests_pass(kind: str, tmp_path: Path) -> None:
    project = tmp_path / "layered-backend"
    shutil.copytree(ROOT / kind / "layered-backend", project)

    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout
    assert "6 passed" in result.stdout
