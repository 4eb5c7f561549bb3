"""A system without fork: the same verdicts, from processes that are started anew."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ACTIVATED, HERE, edit

PATHS = [str(HERE / "nofork"), os.environ.get("PYTHONPATH", "")]
WITHOUT = ACTIVATED | {"PYTHONPATH": os.pathsep.join(filter(None, PATHS))}


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a module of Python where os.fork is not there."""
    return subprocess.run(
        [sys.executable, "-P", "-m", *arguments],
        cwd=folder,
        env=WITHOUT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def grade(pack: Path) -> subprocess.CompletedProcess[str]:
    return python(pack, "pytest", "checks/", "--target=sub", "--time-limit=2")


def test_right_code_passes_and_wrong_code_fails_with_its_message(pack: Path) -> None:
    edit(pack / "sub/prices/app.py", "cents + cents * percent // 100", "cents")

    result = grade(pack)

    assert "1 failed, 3 passed" in result.stdout
    assert "seen 100, expected 120" in result.stdout


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("import os\nos._exit(0)\n", "ended itself (exit status 0) while its app.py was imported"),
        ("while True: pass\n", "it did not answer in its time and was ended while its app.py"),
    ],
)
def test_code_that_ends_or_hangs_its_process_is_named(pack: Path, code: str, sentence: str) -> None:
    app = pack / "sub/orders/app.py"
    app.write_text(code + app.read_text())

    result = grade(pack)

    assert sentence in " ".join(result.stdout.split())
    assert "2 passed" in result.stdout


def test_the_command_grades(pack: Path) -> None:
    python(pack, "proven_backend.cli", "start")
    solved = (pack / "solutions/prices/app.py").read_bytes()
    (pack / "work/prices/app.py").write_bytes(solved)

    result = python(pack, "proven_backend.cli", "check", "prices")
    doctor = python(pack, "proven_backend.cli", "doctor")

    assert "2 of 2 rules pass." in result.stdout
    assert result.returncode == 0
    assert "This system cannot fork" in doctor.stdout


def test_wrongs_are_caught(pack: Path) -> None:
    result = python(pack, "pytest", "checks/test_prices.py", "--prove")

    assert "failed" not in result.stdout
    assert "4 counter-examples caught" in result.stdout
