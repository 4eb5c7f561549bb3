"""The command ``proven``, run as a learner would, on the demonstration pack."""

import json
import os
import re
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pexpect
import pytest
import typer
from conftest import ACTIVATED, edit

from proven_backend import hints, programs, workspace
from proven_backend.cli import app, main
from proven_backend.pack import Pack
from proven_backend.workspace import Workspace

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-P", "-m", "proven_backend.cli"]
COMMANDS = {
    name: made
    for name, made in typer.main.get_command(app).commands.items()
    if not made.hidden  # type: ignore[attr-defined]
}
Proven = Callable[..., subprocess.CompletedProcess[str]]


def proven(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """What `proven ARGUMENTS` printed in a folder, and its exit status.

    A fork of this process saves the half second that the imports take; with an environment of its
    own it is a new process, as a shell would start it.
    """
    command = [*COMMAND, *arguments]
    if env or not hasattr(os, "fork"):
        return subprocess.run(
            command, cwd=folder, env=ACTIVATED | env, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        child = os.fork()
        if not child:
            status = 1
            try:
                os.chdir(folder)
                os.environ |= ACTIVATED
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                sys.argv = ["proven", *arguments]
                sys.stdout, sys.stderr = out, err
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                main()
            except SystemExit as end:
                status = int(end.code or 0)
            except BaseException:  # noqa: BLE001 - the fork must not go on as the test
                traceback.print_exc()
            out.flush()
            err.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, status, out.read(), err.read())


def told(folder: Path, *arguments: str, status: int = 0) -> str:
    """What was printed where the exit status is as expected; nothing on the other stream."""
    result = proven(folder, *arguments)
    assert result.returncode == status, result.stdout + result.stderr
    told, silent = (result.stdout, result.stderr) if status < 2 else (result.stderr, result.stdout)
    assert silent == ""
    return told


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but what proven keeps, with its bytes."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not {".proven", "__pycache__"} & {*file.parts}
    }


def state(work: Path) -> dict[str, Any]:
    return dict(json.loads((work / ".proven/state.json").read_text()))


@pytest.fixture
def work(pack: Path) -> Path:
    """The workspace of the demonstration pack."""
    return workspace.start(pack, pack / "work")[0].root


def solve(pack: Path, work: Path, topic: str) -> None:
    shutil.copytree(pack / "solutions" / topic, work / topic, dirs_exist_ok=True)


# start


def test_start_makes_a_copy_and_says_what_one_should_know(pack: Path) -> None:
    said = told(pack, "start")

    assert "Your workspace is work: 2 topics added." in said
    assert "You should know async and await" in said
    assert "next    orders / commit-before-reply" in said
    assert "\n        not done yet\n        work/orders/app.py:29\n" in said
    assert "\n        TODO: when does FastAPI leave this dependency?\n" in said
    assert "do      proven watch" in said
    assert tree(pack / "work") == tree(pack / "exercises")


def test_start_again_changes_nothing_and_completes(pack: Path, work: Path) -> None:
    edit(work / "orders/app.py", '"orders"', '"my_orders"')
    mine = tree(work)
    shutil.rmtree(work / "prices")

    assert "Your workspace is work: 1 topic added." in told(pack, "start")
    assert "nothing was missing" in told(pack, "start")
    assert tree(work) == mine


@pytest.mark.parametrize("name", [".", "exercises", "exercises/more", "skills", ".git/x"])
def test_start_leaves_the_packs_own_folders_alone(pack: Path, name: str) -> None:
    before = tree(pack)

    assert "is the pack's own: name another folder" in told(pack, "start", name, status=2)
    assert tree(pack) == before
    assert not (pack / name / ".proven").exists()


def test_start_does_not_mix_with_what_is_there(pack: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "cat.jpg").write_bytes(b"\xff")

    said = told(pack, "start", str(foreign), status=2)

    assert "holds something else (cat.jpg): name an empty folder or a new one" in said
    assert tree(foreign) == {"cat.jpg": b"\xff"}


def test_a_copy_made_by_hand_becomes_a_workspace(pack: Path) -> None:
    shutil.copytree(pack / "exercises", pack / "work")
    edit(pack / "work/orders/app.py", '"orders"', '"my_orders"')
    mine = tree(pack / "work")

    assert "was not made by proven: run `proven start`" in told(pack, status=2)
    assert "nothing was missing" in told(pack, "start")
    assert "next    orders / commit-before-reply" in told(pack)
    assert tree(pack / "work") == mine


def test_a_workspace_elsewhere_is_found_from_inside_and_from_the_checkout(
    pack: Path, tmp_path: Path
) -> None:
    place = tmp_path / "mein Kurs [é]" / "wörk"
    told(pack, "start", str(place))
    solve(pack, place, "prices")

    assert f"{place}/orders/app.py:29" in told(pack, "next")
    assert "        app.py:29\n" in told(place / "orders", "next")
    assert "2 of 2 rules pass." in told(place / "prices", "check", "prices")
    assert told(pack, "list") == told(place, "list")
    assert not (pack / "work").exists()


def test_a_link_to_a_workspace_is_the_workspace(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (pack / "work").symlink_to(tmp_path / "real")

    told(pack, "start")

    assert tree(tmp_path / "real") == tree(pack / "exercises")
    assert "orders / commit-before-reply" in told(pack / "work", "next")
    assert "orders / commit-before-reply" in told(pack, "next")


def test_what_was_moved_says_so_and_is_mended_by_start(pack: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "course", tmp_path / "moved"
    told(pack, "start", str(old))
    solve(pack, old, "prices")
    told(pack, "check", "prices")

    old.rename(new)
    assert f"the workspace of this checkout is not at {old}" in told(pack, status=2)
    assert f"the workspace of this checkout is not at {old}" in told(pack, "start", status=2)
    (tmp_path / "away").mkdir()
    deep = tmp_path / "away" / "moved"
    new.rename(deep)
    said = told(deep, "next", status=2)
    assert f"change into the checkout, and there run `proven start '{deep}'`" in said

    told(pack, "start", str(deep))
    assert "2 of 4 rules" in told(deep)

    both = tmp_path / "both"
    both.mkdir()
    pack.rename(both / "pack")
    (tmp_path / "away").rename(both / "away")
    assert "2 of 4 rules" in told(both / "pack")
    assert "2 of 4 rules" in told(both / "away/moved")


@pytest.mark.parametrize(
    "arguments",
    ["", "start", "watch", "check", "hint", "next", "list", "explain x", "solution x", "reset x",
     "update"],
)  # fmt: skip
def test_outside_of_everything_there_is_a_sentence(tmp_path: Path, arguments: str) -> None:
    said = told(tmp_path, *arguments.split(), status=2)

    assert said == (
        f"proven: {tmp_path} is neither in a workspace nor in a checkout of the pack: "
        "change into one\n"
    )


def test_without_a_workspace_start_is_named(pack: Path) -> None:
    assert told(pack, status=2) == "proven: there is no workspace yet: run `proven start`\n"


# check


def test_check_of_one_topic_tells_all_of_its_first_failure(pack: Path, work: Path) -> None:
    solve(pack, work, "orders")
    edit(work / "orders/app.py", ".order_by(Order.id)", "")
    edit(work / "orders/app.py", "select(Order.sku)))", "select(Order.sku)))[::-1]")

    said = told(pack, "check", "orders", status=1)

    assert said.startswith(
        "✓ commit-before-reply passed\n✗ list-in-order failed\n1 of 2 rules pass.\n\n"
        "orders / list-in-order\ndone      listed = await client.get"
    )
    assert "seen ['rice', 'milk', 'tea'], expected ['tea', 'milk', 'rice']" in said
    assert said.endswith("next      proven hint list-in-order\n")
    assert state(work)["last"]["rule"] == "orders/list-in-order"


def test_check_of_all_shows_every_topic_and_the_next_failure_in_short(
    pack: Path, work: Path
) -> None:
    solve(pack, work, "orders")

    said = told(pack, "check", status=1)

    assert re.search(r"orders +✓✓ +2 of 2\nprices +✗✗ +0 of 2\n", said)
    assert "✓ passed  ✗ failed\n" in said
    assert "next    prices / add-the-tax\n        its check fails\n" in said
    assert "\n        seen 100, expected 120\n" in said
    assert "do      proven watch" in said


def test_check_passes_with_status_0(pack: Path, work: Path) -> None:
    solve(pack, work, "orders")
    solve(pack, work, "prices")

    assert "1 of 1 rules pass." in told(pack, "check", "orders/list-in-order")
    assert "2 of 2 rules pass." in told(pack, "check", "prices")
    assert "All rules of the course pass." in told(pack, "check")
    assert "4 of 4 rules" in told(pack)


def test_check_tells_programs_the_same(pack: Path, work: Path) -> None:
    solve(pack, work, "prices")

    report = json.loads(told(pack, "check", "--json", status=1))

    assert report["version"] == 1
    assert report["counts"] == {"failed": 1, "not started": 1, "passed": 2}
    assert [rule["rule"] for rule in report["rules"]] == [
        "commit-before-reply", "list-in-order", "add-the-tax", "share-the-bill",
    ]  # fmt: skip
    assert report["rules"][0]["text"].startswith("orders / commit-before-reply\n")


def test_what_cannot_be_graded_is_status_2(pack: Path, work: Path) -> None:
    (pack / "checks/test_orders.py").write_text("def broken(:\n")

    assert "proven: the grading process ended: " in told(pack, "check", "orders", status=2)


# names


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("check order", "no topic and no rule is called order: did you mean orders?"),
        ("watch order", "no topic is called order: did you mean orders?"),
        ("reset add-the-tax", "add-the-tax is a rule of the topic prices: name the topic"),
        ("solution cheese", "no topic is called cheese: `proven list` names them all"),
        ("hint add-teh-tax", "no rule is called add-teh-tax: did you mean add-the-tax?"),
        ("hint orders/list-order", "no rule is called orders/list-order: did you mean list-in-or"),
        ("check order/add-the-tax", "no rule is called order/add-the-tax: did you mean add-the-t"),
        ("hint commit-after-answer", "did you mean commit-before-reply?"),
        ("explain prices", "prices is a topic: name one of its rules, add-the-tax, share-the-bill"),
    ],
)
def test_an_unknown_name_brings_what_was_meant(
    pack: Path, work: Path, arguments: str, said: str
) -> None:
    assert said in told(pack, *arguments.split(), status=2)


def test_an_unknown_command_brings_what_was_meant(pack: Path) -> None:
    assert "Did you mean 'check'?" in told(pack, "chek", status=2)


# hint


def test_hints_lead_from_the_question_to_the_code_and_are_recorded(pack: Path, work: Path) -> None:
    levels = [told(pack, "hint", "list-in-order") for _ in range(5)]

    assert "which order came first?\n\ndone      listed = await client.get" in levels[0]
    assert "\nThe next one is the reason.\ndo      proven hint list-in-order\n" in levels[0]
    assert "Give every list an order. Rows come back as the database likes.\n" in levels[1]
    assert "wrong:\n\nreturn list(await session.scalars(select(Order.sku)))[::-1]\n" in levels[2]
    assert levels[3].endswith(
        "(hint 4 of 4)\n\n"
        "right:\n\nreturn list(await session.scalars(select(Order.sku).order_by(Order.id)))\n"
    )
    assert levels[4] == levels[3]
    assert state(work)["rules"]["orders/list-in-order"]["hints"] == 4


def test_a_hint_without_a_name_is_for_the_next_rule_and_a_level_may_be_named(
    pack: Path, work: Path
) -> None:
    assert "orders / commit-before-reply  (hint 3 of 4)" in told(pack, "hint", "--level", "3")
    assert "commit-before-reply  (hint 1 of 4)" in told(pack, "hint", "--level", "1")
    assert state(work)["rules"]["orders/commit-before-reply"]["hints"] == 3
    assert "(hint 4 of 4)" in told(pack, "hint")
    assert "should be less than or equal to 4" in told(pack, "hint", "--level", "5", status=2)


def test_no_hint_before_the_fourth_gives_the_right_code_away() -> None:
    pack, seen = Pack(ROOT), 0
    for topic in pack.topics():
        stub = "\n".join(programs.original(pack, "exercises", topic).sources.values())
        for rule in pack.rules(topic):
            right = rule.pairs[0].right
            assert right
            new = [line.strip() for line in right.code.splitlines()]
            new = [line for line in new if len(line) > 1 and line not in stub]
            for level in (1, 2):
                told = hints.hint(pack, rule, level, "")
                assert not [line for line in new if line in told], (rule.id, level)
            # A wrong shares lines with its right, never all of them in their order.
            assert f"\n{right.code}" not in hints.hint(pack, rule, 3, "") + "\n", rule.id
            assert f"\n{right.code}" in hints.hint(pack, rule, 4, "") + "\n", rule.id
            seen += 1
    assert seen > 100


# where one stands


def test_progress_tells_the_next_rule_why_and_the_last_verdict(pack: Path, work: Path) -> None:
    assert "last    no verdict yet" in told(pack)
    solve(pack, work, "orders")
    told(pack, "check", status=1)

    said = told(pack)

    assert re.search(r"orders +✓✓ +2 of 2", said)
    assert "course  2 of 4 rules" in said
    assert "next    prices / add-the-tax\n        its check fails\n" in said
    assert "last    ✗ prices/add-the-tax failed, just now\n        seen 100, expected 120\n" in said
    assert told(pack, "next") in said
    assert re.search(r"✓ list-in-order +passed\n", told(pack, "list"))
    assert re.search(r"✗ add-the-tax +failed, next\n", told(pack, "list"))


def test_a_changed_check_asks_to_verify_again_and_loses_no_point(pack: Path, work: Path) -> None:
    solve(pack, work, "prices")
    solve(pack, work, "orders")
    told(pack, "check")
    first = state(work)["rules"]["prices/add-the-tax"]["first_passed"]

    edit(pack / "checks/test_prices.py", "/taxed/100", "/taxed/50")
    edit(pack / "checks/test_prices.py", "== 120", "== 60")

    assert "prices/add-the-tax  verify again: its check changed" in told(pack, "update")
    assert "        it passed before its check changed: verify it again\n" in told(pack, "next")
    assert re.search(r"\? add-the-tax +verify again, next\n", told(pack, "list"))
    assert "4 of 4 rules" in told(pack)

    assert "2 of 2 rules pass." in told(pack, "check", "prices")
    assert told(pack, "update") == "All is current.\n"
    assert state(work)["rules"]["prices/add-the-tax"]["first_passed"] == first


def test_a_damaged_state_is_kept_and_rebuilt(pack: Path, work: Path) -> None:
    solve(pack, work, "prices")
    told(pack, "check", status=1)
    file = work / ".proven/state.json"
    file.write_text(file.read_text()[:100])
    damaged = file.read_bytes()

    result = proven(pack)

    assert "The progress was damaged. It is kept in" in result.stderr
    assert "2 of 4 rules" in result.stdout
    kept = [each.read_bytes() for each in file.parent.glob("state.json.damaged-*")]
    assert kept == [damaged]


# explain and solution


def test_explain_shows_the_rule_and_how_its_wrong_fails_now(pack: Path, work: Path) -> None:
    hidden = told(pack, "explain", "list-in-order")

    assert hidden.startswith("orders / list-in-order\n\nGive every list an order.")
    assert hidden.count("\nwrong\n") == 2
    assert "order_by(Order.id)" not in hidden
    assert "The first wrong code, run now by test_list_in_order:" in hidden
    assert "✗ list-in-order failed\ndone      listed = " in hidden
    assert "seen ['rice', 'milk', 'tea'], expected ['tea', 'milk', 'rice']\n" in hidden
    assert hidden.endswith("expected  Orders are listed as they came.\n")

    told(pack, "hint", "list-in-order", "--level", "4")
    shown = told(pack, "explain", "orders/list-in-order")
    assert "\nright\nreturn list(await session.scalars(select(Order.sku).order_by(Or" in shown
    assert "\nalso right\n" in shown


def test_every_rule_can_be_explained_to_those_who_have_no_workspace(pack: Path) -> None:
    for topic in ("orders", "prices"):
        for rule in Pack(pack).rules(topic):
            said = told(pack, "explain", rule.id)
            assert "\nright\n" in said
            assert f"✗ {rule.id} failed\ndone " in said


def test_a_wrong_for_another_server_is_named(pack: Path) -> None:
    skill = pack / "skills/prices/SKILL.md"
    text = skill.read_text().replace('"wrong"', '"wrong on PostgreSQL"')
    skill.write_text(text)

    assert "Its wrong codes fail on PostgreSQL, which is not run here." in told(
        pack, "explain", "add-the-tax"
    )
    skill.write_text(text.replace("```python title=\"wrong on PostgreSQL\"\nreturn cents * p",
                                  "```python title=\"wrong\"\nreturn cents * p"))  # fmt: skip
    said = told(pack, "explain", "add-the-tax")
    assert "The wrong code at skills/prices/SKILL.md:17, run now by test_add_the_tax:" in said
    assert "seen 20, expected 120" in said


def test_a_solution_is_shown_after_the_rules_pass_or_when_given_up(pack: Path, work: Path) -> None:
    refused = told(pack, "solution", "prices", status=2)
    assert refused == (
        "proven: 2 rules of prices have not passed yet (first: add-the-tax): solve them, or see it "
        "now by `proven solution prices --give-up`, which is recorded\n"
    )
    assert not (work / ".proven/state.json").exists()

    difference = told(pack, "solution", "prices", "--give-up")
    assert "--- yours/app.py\n+++ reference/app.py\n" in difference
    assert "-        return cents\n+        return cents + cents * percent // 100\n" in difference
    assert list(state(work)["given_up"]) == ["prices"]
    assert told(pack, "solution", "prices") == difference

    solve(pack, work, "orders")
    assert "have not passed yet" in told(pack, "solution", "orders", status=2)
    told(pack, "check", "orders")
    assert told(pack, "solution", "orders") == "Your files are the reference, line for line.\n"
    assert list(state(work)["given_up"]) == ["prices"]


# reset and update


def test_reset_keeps_every_byte_and_says_where(pack: Path, work: Path) -> None:
    solve(pack, work, "orders")
    told(pack, "check", "orders")
    (work / "orders/own").mkdir()
    (work / "orders/own/notes.txt").write_bytes(b"caf\xe9\r\n")
    mine = tree(work / "orders")

    said = told(pack, "reset", "orders")

    found = re.match(r"Your files are kept in (.+)\nwork/orders is the stub again\.\n", said)
    assert found
    assert (pack / found[1]).parent == work / ".proven/backups"
    assert {name: (pack / found[1] / name).read_bytes() for name in mine} == mine
    assert tree(work / "orders") == tree(pack / "exercises/orders")
    assert re.search(r"· list-in-order +to do, passed before\n", told(pack, "list"))
    assert told(pack, "next").startswith(
        "next    orders / commit-before-reply\n        to do again: it passed before\n"
    )
    assert "2 of 4 rules" in told(pack)


def upstream(pack: Path) -> None:
    """A pull: one stub's file changed in both topics, one came, one went, and a topic came."""
    edit(pack / "exercises/orders/app.py", '"""A shop takes', '"""A new shop takes')
    edit(pack / "exercises/prices/app.py", '"""A shop tells', '"""A new shop tells')
    (pack / "exercises/prices/more.py").write_text("MORE = 1\n")
    for folder in ("skills", "exercises", "solutions"):
        shutil.copytree(pack / folder / "prices", pack / folder / "taxes")
    (pack / "checks/test_taxes.py").write_text((pack / "checks/test_prices.py").read_text())
    for old, new in (("add-the-tax", "add-a-tax"), ("share-the-bill", "share-a-bill")):
        for file in (pack / "skills/taxes/SKILL.md", pack / "exercises/taxes/app.py"):
            file.write_text(file.read_text().replace(old, new))
    text = (pack / "checks/test_taxes.py").read_text()
    text = text.replace("_the_tax", "_a_tax").replace("_the_bill", "_a_bill")
    (pack / "checks/test_taxes.py").write_text(text)


def test_update_replaces_what_is_untouched_and_keeps_what_is_edited(
    pack: Path, tmp_path: Path
) -> None:
    for name in ("old.py", "kept.py"):
        (pack / "exercises/prices" / name).write_text("OLD = 1\n")
    work = workspace.start(pack, pack / "work")[0].root
    edit(work / "orders/app.py", "raise NotImplementedError", "return []")
    edit(work / "prices/kept.py", "1", "2")
    mine = tree(work)
    upstream(pack)
    for name in ("old.py", "kept.py"):
        (pack / "exercises/prices" / name).unlink()

    said = told(pack, "update").splitlines()

    assert said == [
        "orders/app.py  kept: yours is edited; the new one is beside it, app.py.new",
        "prices/app.py  replaced: it was untouched",
        "prices/kept.py  kept: yours is edited; the exercise has this file no more",
        "prices/more.py  added",
        "prices/old.py  removed: it was untouched, and the exercise has it no more",
        "taxes/  added",
        "do      proven check",
    ]
    stubs = tree(pack / "exercises")
    assert tree(work) == stubs | {
        "orders/app.py": mine["orders/app.py"],
        "orders/app.py.new": stubs["orders/app.py"],
        "prices/kept.py": mine["prices/kept.py"],
    }
    assert told(pack, "update") == "All is current.\n"
    assert "app.py.new is a new stub beside yours" in told(pack, "doctor", status=1)


def test_a_new_stub_that_was_edited_is_kept_too(pack: Path, work: Path) -> None:
    stub = pack / "exercises/orders/app.py"
    edit(work / "orders/app.py", "raise NotImplementedError", "return []")
    edit(stub, '"""A shop', '"""A second shop')
    told(pack, "update")
    beside = work / "orders/app.py.new"
    beside.write_text("half merged\n")
    edit(stub, '"""A second', '"""A third')

    told(pack, "update")

    assert beside.read_bytes() == stub.read_bytes()
    kept = list((work / ".proven/backups").glob("orders-*/app.py.new"))
    assert [file.read_text() for file in kept] == ["half merged\n"]


STEPS = ("replace", "rename", "unlink", "mkdir", "fsync")


def killed(step: int, act: Callable[[], object], *, how: str) -> bool:
    """Whether `act`, in a process of its own, came to its step number `step`, where it was ended.

    A step is a call that changes the file system; it ends by a kill or by a full disk.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
    left = [step]

    def ending(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            left[0] -= 1
            if left[0] == 0 and how == "kill":
                os._exit(9)
            if left[0] <= 0:
                raise OSError(28, "No space left on device")
            return real(*arguments, **named)

        return call

    status = 1
    with suppress(OSError):
        for name in STEPS:
            setattr(os, name, ending(getattr(os, name)))
        shutil.copyfile = ending(shutil.copyfile)  # type: ignore[assignment]
        act()
        status = 0
    os._exit(status)


def acts(pack: Path) -> Iterator[tuple[str, Callable[[Workspace], object]]]:
    yield "reset", lambda place: workspace.reset(place, "orders")
    yield "update", lambda place: list(workspace.update(place))


@pytest.mark.parametrize("how", ["kill", "full disk"])
@pytest.mark.parametrize("act", ["reset", "update"])
def test_no_byte_is_lost_wherever_it_ends(pack: Path, work: Path, act: str, how: str) -> None:
    edit(work / "orders/app.py", "raise NotImplementedError", "return []")
    (work / "orders/own.py").write_text("OWN = 1\n")
    (work / "orders/app.py.new").write_text("half merged\n")
    upstream(pack)
    place, before = Workspace(work, Pack(pack)), tree(work)
    newest = (pack / "exercises/prices/app.py").read_bytes()
    acting = dict(acts(pack))[act]
    steps = 1
    spare = pack / "spare"
    shutil.copytree(work, spare, symlinks=True)

    while killed(steps, lambda: acting(place), how=how):
        backups = [
            file.read_bytes() for file in (work / ".proven/backups").rglob("*") if file.is_file()
        ]
        for name, data in before.items():
            here = work / name
            there = here.is_file() and here.read_bytes() == data
            stub = name == "prices/app.py" and here.read_bytes() == newest
            assert there or stub or data in backups, (steps, name)
        acting(place)  # what was begun can be ended
        if act == "reset":
            assert tree(work / "orders") == tree(pack / "exercises/orders")
        shutil.rmtree(work)
        shutil.copytree(spare, work, symlinks=True)
        steps += 1

    assert steps > 8


# the shell and the terminal


def test_bash_completes_commands_topics_and_rules(pack: Path, work: Path) -> None:
    script = subprocess.run(
        [*COMMAND, "--show-completion", "bash"], env=ACTIVATED, capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    shim = pack / "bin/proven"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    shim.chmod(0o755)

    def completed(line: str) -> str:
        ask = (
            f"{script}\nCOMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1))\n"
            "_proven_completion proven; echo ${COMPREPLY[@]}"
        )
        path = f"{shim.parent}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-c", ask], cwd=pack, env=ACTIVATED | {"PATH": path}, capture_output=True,
            text=True, check=True,
        ).stdout.strip()  # fmt: skip

    assert completed("proven re") == "reset"
    assert completed("proven reset o") == "orders"
    assert completed("proven hint add") == "add-the-tax"
    assert completed("proven check orders/l") == "orders/list-in-order"
    assert completed("proven explain orders") == ""


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_answered(pack: Path, work: Path, shell: str) -> None:
    answer = proven(
        pack,
        _PROVEN_COMPLETE=f"complete_{shell}",
        _TYPER_COMPLETE_ARGS="proven check sh",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    ).stdout

    assert "share-the-bill" in answer
    assert "orders" not in answer


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_has_examples(tmp_path: Path, name: str) -> None:
    said = told(tmp_path, *name.split(), "--help")

    assert f"Usage: proven {name}".strip() in said
    assert re.search(r"Examples: *\n *(git pull && )?proven", said)
    assert max(map(len, said.splitlines())) <= 80


def test_colours_are_for_terminals_that_want_them(pack: Path, work: Path) -> None:
    colour = re.compile(r"\x1b\[[0-9;]*3[0-7]m")

    def screen(**env: str) -> str:
        wanted = {"TERM": "xterm-256color"} | env
        child = pexpect.spawn(
            COMMAND[0], [*COMMAND[1:], "check", "nothing"], cwd=pack, encoding="utf-8", timeout=60,
            env={k: v for k, v in ACTIVATED.items() if k != "NO_COLOR"} | wanted,
        )  # fmt: skip
        child.expect(pexpect.EOF)
        return str(child.before)

    assert colour.search(screen())
    assert not colour.search(screen(NO_COLOR="1"))
    assert "\x1b" not in screen(TERM="dumb")
    assert "\x1b" not in told(pack, "check", "nothing", status=2)


def test_a_narrow_terminal_wraps_words_and_a_wide_one_is_not_filled(pack: Path, work: Path) -> None:
    for columns, most in (("60", 60), ("200", 110)):
        for arguments in ("", "list", "next", "hint commit-before-reply --level 2"):
            said = proven(pack, *arguments.split(), COLUMNS=columns).stdout
            assert said
            assert max(len(line.rstrip()) for line in said.splitlines()) <= most, arguments
    code = proven(pack, "hint", "list-in-order", "--level", "4", COLUMNS="60").stdout
    assert "return list(await session.scalars(select(Order.sku).order_by(Order.id)))\n" in code


@pytest.mark.parametrize("arguments", ["list", "check prices --json"])
def test_a_reader_that_goes_away_is_no_error(pack: Path, work: Path, arguments: str) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [*COMMAND, *arguments.split()]
    result = subprocess.run(
        command, cwd=pack, env=ACTIVATED, stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)

    assert result.stderr == b""


# doctor


def test_doctor_finds_nothing_where_all_is_well(pack: Path, work: Path) -> None:
    shutil.copy(ROOT / "constraints.txt", pack)

    said = told(pack, "doctor")

    assert "✗" not in said
    pinned = re.search(r"(\d+) libraries, as pinned in constraints\.txt", said)
    assert pinned
    assert int(pinned[1]) > 50
    assert "The file system tells of changes" in said


def test_doctor_names_each_fault_and_what_mends_it(pack: Path, work: Path) -> None:
    (pack / "constraints.txt").write_text("typer==0.0.1\n")
    edit(pack / "pyproject.toml", '"uvicorn",', '"uvicorn", "no-such-library",')
    (work / "orders/app.py").write_bytes(b"\xff\xfe")
    shutil.rmtree(work / "prices")
    (work / ".proven/state.json").write_text("{")

    said = told(pack, "doctor", status=1)

    assert "✗ Libraries: no-such-library is missing; typer is " in said
    assert f"install -c {pack}/constraints.txt -e {pack}" in said
    assert "orders/app.py cannot be read as text" in said
    assert "mend it: proven reset orders" in said
    assert "✗ prices is missing in the workspace\n  mend it: proven start" in said
    assert "The progress was damaged" in said


def test_doctor_helps_where_there_is_no_workspace(pack: Path, tmp_path: Path) -> None:
    assert "✗ there is no workspace yet\n  mend it: run `proven start`" in told(
        pack, "doctor", status=1
    )
    assert "mend it: change into one" in told(tmp_path, "doctor", status=1)


def test_generate_wants_a_checkout(tmp_path: Path) -> None:
    assert "is not in a checkout of the pack: change into one" in told(
        tmp_path, "generate", status=2
    )


# the documentation


def test_the_page_lists_every_command_as_it_is() -> None:
    """The table of docs/learn.md is made of the commands' own arguments and first sentences."""
    page = (ROOT / "docs/learn.md").read_text()
    rows = re.findall(r"^\| `proven ([a-z]+)(.*?)` \| (.+) \|$", page, re.MULTILINE)
    wanted = []
    for name, command in COMMANDS.items():
        arguments = "".join(
            f" {part.metavar}" if part.required else f" [{part.metavar or part.opts[0]}]"
            for part in command.params
            if "--help" not in part.opts
        )
        wanted.append((name, arguments, " ".join(command.help.split("\n\n")[0].split())))

    assert rows == wanted
