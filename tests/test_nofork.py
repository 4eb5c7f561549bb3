"""A system without fork: the same verdicts, from processes that are started anew."""

import os
from pathlib import Path

import pytest
from conftest import HERE, Proven, Run, edit

PATHS = [str(HERE / "nofork"), os.environ.get("PYTHONPATH", "")]
WITHOUT = {"PYTHONPATH": os.pathsep.join(filter(None, PATHS))}  # os.fork is not there
GRADED = ("--target=sub", "--time-limit=2")


def test_right_code_passes_and_wrong_code_fails_with_its_message(pack: Path, run: Run) -> None:
    edit(pack / "sub/prices/app.py", "cents + cents * percent // 100", "cents")

    result = run(*GRADED, **WITHOUT)

    assert "1 failed, 3 passed" in result.stdout
    assert "seen 100, expected 120" in result.stdout


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("import os\nos._exit(0)\n", "ended itself (exit status 0) while its app.py was imported"),
        ("while True: pass\n", "it did not answer in its time and was ended while its app.py"),
    ],
)
def test_code_that_ends_or_hangs_its_process_is_named(
    pack: Path, run: Run, code: str, sentence: str
) -> None:
    app = pack / "sub/orders/app.py"
    app.write_text(code + app.read_text())

    result = run(*GRADED, **WITHOUT)

    assert sentence in " ".join(result.stdout.split())
    assert "2 passed" in result.stdout


def test_the_command_grades(pack: Path, work: Path, proven: Proven) -> None:
    (work / "prices/app.py").write_bytes((pack / "solutions/prices/app.py").read_bytes())

    result = proven("check", "prices", **WITHOUT)
    doctor = proven("doctor", **WITHOUT)

    assert "2 of 2 rules pass." in result.stdout
    assert result.returncode == 0
    assert "This system cannot fork" in doctor.stdout


def test_wrongs_are_caught(run: Run) -> None:
    result = run("--prove", checks="checks/test_prices.py", **WITHOUT)

    assert "failed" not in result.stdout
    assert "4 counter-examples caught" in result.stdout
