"""The proof runs programs in company: what one leaves behind must decide nothing."""

from pathlib import Path

from conftest import Run, edit

TAX = "cents + cents * percent // 100"
LEFT = "len(__import__('os').environ.get('LEFT', ''))"


def test_what_a_wrong_leaves_behind_does_not_catch_the_next(pack: Path, run: Run) -> None:
    skill = pack / "skills/prices/SKILL.md"
    for file in (skill, pack / "solutions/prices/app.py"):
        edit(file, f"return {TAX}", f"return {TAX} - {LEFT}")
    edit(
        skill,
        'return cents\n```\n\n```python title="wrong"\nreturn cents * percent // 100',
        "__import__('os').environ['LEFT'] = 'x'\nreturn cents\n```\n\n"
        f'```python title="wrong"\nreturn {TAX} - 1 * {LEFT}',
    )

    result = run("--prove", "-k", "add-the-tax")

    assert "this wrong passes test_add_the_tax: the check does not see it" in result.stdout
    assert "1 of 2 counter-examples caught" in result.stdout
    assert "run again alone" in result.stdout


def test_a_real_server_is_for_the_proof_alone(run: Run) -> None:
    result = run("--redis=valkey")

    assert result.returncode == 4
    assert "--redis starts processes of the code that is run" in result.stderr


def test_a_server_with_something_in_it_is_left_alone(run: Run) -> None:
    result = run("--prove", "--redis=redis://127.0.0.1:1")

    assert result.returncode == 4
    assert "no Redis answers at redis://127.0.0.1:1" in result.stderr
