"""What a failed check says."""

from pathlib import Path

import pytest
from conftest import Run, edit

from proven_backend.message import compared

MESSAGE = """\
orders / commit-before-reply
done      with db.commits_fail():
              lost = await client.post("/orders/tea?visitor=bob")
seen      POST /orders/tea?visitor=bob
            BEGIN · INSERT INTO orders … ('tea',)
            < 201
            COMMIT
            crashed: OperationalError: the database did not store this at app.py:26
          seen 201, expected 500: the reply left before the commit
expected  A client is told 201 only when its order is really stored.
why       Leave the session dependency before the reply goes out. FastAPI runs the code after
          `yield` once the reply is sent, so a failed commit is a 201.
where     exercises/orders/app.py:29  TODO: when does FastAPI leave this dependency?
next      proven hint commit-before-reply
"""


def test_a_failure_says_what_why_where_and_what_next(run: Run) -> None:
    assert MESSAGE in run().stdout


def test_a_solved_todo_is_found_by_its_place(pack: Path, run: Run) -> None:
    edit(pack / "sub/prices/app.py", "cents + cents * percent // 100", "cents")

    assert "where     sub/prices/app.py:16  taxed" in run("--target=sub").stdout


def test_the_summary_says_what_to_do_next(run: Run) -> None:
    stdout = run().stdout

    assert "orders         0       1            1        0" in stdout
    assert "next: orders / commit-before-reply" in stdout
    assert "open   exercises/orders/app.py:29" in stdout


def test_a_long_story_is_folded(pack: Path, run: Run) -> None:
    edit(
        pack / "sub/orders/app.py",
        'return {"sku": sku}',
        "for number in range(99):\n            session.add(Order(sku=str(number)))\n"
        '            await session.flush()\n        return {"sku": sku}',
    )

    stdout = run("--target=sub", "-k", "commit").stdout
    message = stdout[stdout.index("orders / commit") : stdout.index("topic ")]

    assert "more lines …" in message
    assert len(message.splitlines()) <= 25


LONG = {f"part number {number}": "the same on both sides" for number in range(9)}


@pytest.mark.parametrize(
    ("seen", "expected", "words"),
    [
        ({"told": 201, "left": 1}, {"told": 201, "left": 2}, "seen {'told': 201, 'left': 1}, "),
        (LONG | {"left": 1}, LONG | {"left": 2}, "seen {'left': 1}, expected {'left': 2}"),
        (LONG | {"left": 1}, LONG, "seen {'left': 1}, expected {}"),
        (
            LONG | {"in": LONG},
            LONG | {"in": LONG | {"x": 1}},
            "seen {'in': {}}, expected {'in': {'x': 1}}",
        ),
        ([*LONG, "tea"], [*LONG], "seen ['tea'], expected []"),
        ([*LONG, "tea"], ["tea", *LONG], "seen ['part number 0', "),
    ],
)
def test_of_long_values_only_what_differs_is_shown(
    seen: object, expected: object, words: str
) -> None:
    assert compared(seen, "==", expected)[0].startswith(words)
