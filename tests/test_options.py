"""Options, and what pytest's own do: nothing of a target is run before they are settled."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from conftest import Run, edit


def test_a_target_with_a_space_is_graded_and_its_conftest_is_not_run(pack: Path, run: Run) -> None:
    target = (pack / "sub").rename(pack / "my work")
    (target / "conftest.py").write_text("import os\nos._exit(0)\n")

    for arguments in (["--target", "my work"], ["--target=my work"], [f"--target={target}"]):
        result = run(*arguments)

        assert "4 passed" in result.stdout
        assert result.returncode == 0


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("nowhere", "--target=nowhere does not exist: name a folder laid out like exercises/"),
        ("mkdocs.yml", "--target=mkdocs.yml is a file: name a folder laid out like exercises/"),
        ("empty", "--target=empty holds no topic folder: name a folder laid out like exercises/"),
        ("", "--target= is empty: name a folder laid out like exercises/"),
    ],
)
def test_a_target_that_cannot_be_graded_is_a_usage_error(
    pack: Path, run: Run, target: str, sentence: str
) -> None:
    (pack / "empty").mkdir()

    result = run(f"--target={target}")

    assert f"ERROR: {sentence}" in result.stderr
    assert result.returncode == 4


def test_a_proof_takes_no_target(run: Run) -> None:
    result = run("--prove", "--target=sub")

    assert "--prove proves the pack itself: leave --target out" in result.stderr
    assert result.returncode == 4


def test_a_proof_of_nothing_fails(pack: Path, run: Run) -> None:
    for check in pack.glob("checks/*.py"):
        check.write_text("")

    result = run("--prove")

    assert result.returncode == 1
    assert "nothing was proven: 0 topics" in result.stdout


def test_work_is_graded_before_exercises(pack: Path, run: Run) -> None:
    untouched = run()
    (pack / "sub").rename(pack / "work")
    solved = run()

    assert "grades exercises/ on sqlite" in untouched.stdout
    assert "3 failed, 1 not started" in untouched.stdout
    assert "grades work/ on sqlite" in solved.stdout
    assert "4 passed" in solved.stdout
    assert "All graded rules pass." in solved.stdout


def test_selection_and_reports_work_as_ever(pack: Path, run: Run) -> None:
    edit(pack / "sub/prices/app.py", "cents + cents * percent // 100", "cents")

    result = run("--target=sub", "-k", "tax or list", "--junitxml=report.xml")
    suite = ET.parse(pack / "report.xml").getroot()[0]

    assert "1 failed, 1 passed, 2 deselected" in result.stdout
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert "seen 100, expected 120" in ET.tostring(suite, "unicode")


def test_a_traceback_is_there_for_the_asking(pack: Path, run: Run) -> None:
    edit(pack / "sub/prices/app.py", "cents + cents * percent // 100", "cents")

    assert "test_prices.py:5: in test_add_the_tax" in run("--target=sub", "--tb=short").stdout


def test_the_first_failure_ends_the_run_with_x(run: Run) -> None:
    assert "1 failed" in run("-x").stdout


def test_rules_of_another_database_are_named(pack: Path, run: Run) -> None:
    edit(
        pack / "checks/test_prices.py",
        "async def test_share",
        'import pytest\n\n\n@pytest.mark.postgresql_only("only there are bills")\n'
        "async def test_share",
    )

    result = run("--target=sub")

    assert "not judged on sqlite: share-the-bill (only there are bills)" in result.stdout
    assert "3 passed, 1 deselected" in result.stdout
