"""A learner's progress survives kills, full disks and damage."""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import (
    ACTIVATED,
    HERE,
    ONE,
    PRICES,
    PROVEN,
    TWO,
    Proven,
    Start,
    graders,
    injected,
    states,
    until,
    verdict,
)

from proven_backend import workspace
from proven_backend.children import Children
from proven_backend.progress import PASSED, Progress, State, StateError

FAULTS = """
import errno, os

def failing(name, kind):
    real = getattr(os, name)
    def call(*arguments, **more):
        flag = os.environ["FAULT"]
        if os.path.exists(flag) and open(flag).read() == kind and "state." in str(arguments[:2]):
            raise OSError(getattr(errno, kind), os.strerror(getattr(errno, kind)))
        return real(*arguments, **more)
    setattr(os, name, call)

failing("replace", "ENOSPC")
failing("open", "EROFS")
failing("replace", "EACCES")
"""
SAID = {
    "ENOSPC": "No space left on device",
    "EROFS": "Read-only file system",
    "EACCES": "Permission denied",
}


def test_what_cannot_be_saved_is_saved_later(work: Path, watch: Start, proven: Proven) -> None:
    flag = work.parent / "fault"
    environment = injected(work.parent, FAULTS) | {"FAULT": str(flag)}
    watcher = watch(**environment)
    verdict(watcher)
    before = states(work)

    for kind, text in {"ENOSPC": ONE, "EROFS": TWO, "EACCES": TWO + "# more\n"}.items():
        flag.write_text(kind)
        (work / "orders/app.py").write_text(text)
        watcher.expect_exact(
            f"progress is not saved in {work}/.proven/state.json: {SAID[kind]}. It is tried again "
            "with the next verdict."
        )
        assert verdict(watcher)[1] == (1 if text == ONE else 2)
    checked = proven("check", "prices", **environment)
    assert states(work) == before
    flag.unlink()
    (work / "prices/app.py").write_text(PRICES)
    verdict(watcher, "prices")

    assert list(states(work).values()) == [PASSED] * 4
    assert (checked.returncode, checked.stderr.count("\n")) == (1, 1)
    assert f"proven: progress is not saved in {work}/.proven/state.json: " in checked.stderr


WHOLE = b"""{"version": 1, "rules": {"orders/list-in-order": {"state": "passed", "at":
"2026-01-01T00:00:00+00:00", "first_passed": "2026-01-01T00:00:00+00:00", "check": "1",
"hints": 2}},
"given_up": {}, "damaged": "",
"last": {"rule": "a/b", "state": "failed", "text": "", "at": "2026-01-01T00:00:00+00:00"}}"""
DAMAGED = {
    "empty": b"",
    "cut": WHOLE[:150],
    "binary": bytes(range(256)),
    "zeros": b"\x00" * 500,
    "deep": b"[" * 100_000,
    "a list": b"[]",
    "no version": b'{"rules": {}}',
    "a version in words": WHOLE.replace(b'"version": 1', b'"version": "one"'),
    "a number for a state": WHOLE.replace(b'"passed"', b"5"),
    "an unknown state": WHOLE.replace(b'"passed"', b'"won"'),
    "a word for a number": WHOLE.replace(b'"hints": 2', b'"hints": "2"'),
    "an unknown field": WHOLE.replace(b'"hints"', b'"tips"'),
    "rules in a list": WHOLE.replace(b'"rules": {', b'"rules": [{').replace(b"2}}", b"2}}]"),
    "a list of given up": WHOLE.replace(b'"given_up": {}', b'"given_up": []'),
    "half a last verdict": WHOLE.replace(b'"rule": "a/b", ', b""),
    "a last verdict at no time": WHOLE.replace(b'"", "at": "2026', b'"", "at": "20x6'),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_state_is_kept(tmp_path: Path, kind: str) -> None:
    progress, data = Progress(tmp_path), DAMAGED[kind]
    progress.file.write_bytes(WHOLE)
    assert progress.read().rules["orders/list-in-order"].hints == 2
    progress.file.write_bytes(data)

    damaged = [progress.read().damaged for _ in range(2)]
    with progress.change() as state:
        state.record("orders", "list-in-order").hints = 1

    assert progress.read().damaged == damaged[0] == damaged[1]
    assert Path(damaged[0]).read_bytes() == data
    assert len(list(tmp_path.glob("state.json*"))) == 2


def test_changes_side_by_side_are_all_kept(tmp_path: Path) -> None:
    def change(_: int) -> None:
        progress = Progress(tmp_path)
        with progress.change() as state:
            state.record("orders", "list-in-order").hints += 1
        assert not progress.read().damaged

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(change, range(100)))

    assert Progress(tmp_path).read().rules["orders/list-in-order"].hints == 100


def test_a_damaged_state_is_rebuilt(work: Path, proven: Proven) -> None:
    file = work / ".proven/state.json"
    (work / "orders/app.py").write_text(ONE)
    file.write_bytes(DAMAGED["binary"])

    first, second = proven(), proven()
    [kept] = file.parent.glob("state.json.*")

    assert f"The progress was damaged. It is kept in {kept}" in first.stderr.replace("\n", " ")
    assert kept.read_bytes() == DAMAGED["binary"]
    assert "1 of 4 rules" in first.stdout
    assert (first.returncode, second.returncode, second.stderr) == (0, 0, "")
    assert states(work)["orders/commit-before-reply"] == PASSED


def test_a_state_that_is_damaged_under_the_watcher(work: Path, watch: Start) -> None:
    file = work / ".proven/state.json"
    (work / "orders/app.py").write_text(ONE)
    watcher = watch()
    verdict(watcher)

    file.write_bytes(b"{")
    (work / "prices/app.py").write_text(PRICES)
    watcher.expect_exact(f"The progress was damaged. It is kept in {file}.damaged-")
    verdict(watcher, "prices")

    state = Progress(work / ".proven").read()
    assert states(work)["orders/commit-before-reply"] == PASSED
    assert Path(state.damaged).read_bytes() == b"{"


def test_a_later_state_is_left_alone(work: Path, proven: Proven) -> None:
    file, later = work / ".proven/state.json", WHOLE.replace(b": 1,", b": 2,", 1)
    file.write_bytes(later)

    for arguments in ([], ["watch"]):
        result = proven(*arguments)
        assert result.returncode == 2
        assert result.stderr == (
            f"proven: {file} is of version 2, and this proven knows 1: update the pack\n"
        )
    with pytest.raises(StateError), Progress(file.parent).change():
        pass
    assert file.read_bytes() == later
    assert len(list(file.parent.glob("state.json*"))) == 1


def test_a_kill_before_the_rename_leaves_one_file_at_most(tmp_path: Path) -> None:
    progress = Progress(tmp_path)
    source = (
        "import os, sys; from pathlib import Path; from proven_backend import progress\n"
        "os.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "with progress.Progress(Path(sys.argv[1])).change() as state: state.record('a', 'b')\n"
    )
    progress.write(State())

    for _ in range(3):
        killed = subprocess.run([PROVEN[0], "-c", source, tmp_path], env=ACTIVATED, check=False)
        assert killed.returncode == -signal.SIGKILL
        assert sorted(file.name for file in tmp_path.glob("state.json*")) == [
            "state.json",
            "state.json.making",
        ]
    with progress.change() as state:
        state.record("a", "b")
    assert [file.name for file in tmp_path.glob("state.json*")] == ["state.json"]


def test_what_killed_runs_left_is_removed(pytestconfig: pytest.Config) -> None:
    mine = Children(pytestconfig, [], 1, 1)
    gone = subprocess.Popen([PROVEN[0], "-c", ""])
    gone.wait()
    left = mine.root.with_name(f"proven-{gone.pid}-left")
    (left / "files").mkdir(parents=True)

    list(Children(pytestconfig, [], 1, 1).run([]))

    assert (left.exists(), mine.root.exists()) == (False, True)
    list(mine.run([]))
    assert not mine.root.exists()


# Kills: KILLS says how many, SEED at which moments.

KILLS, SEED = int(os.environ.get("KILLS", "25")), int(os.environ.get("SEED", "20261121"))
SIDE_BY_SIDE = 3
HALF = PRICES.replace("cents // people", "cents")
STEPS = [("orders", ONE), ("orders", TWO), ("prices", HALF), ("prices", PRICES)]


def killed(folder: Path, number: int) -> tuple[int, int]:
    """Kills a command while files are saved; how many verdicts were shown, and its exit status."""
    moment = random.Random(f"{SEED} {number}")
    shutil.copytree(HERE / "demo", folder)
    shutil.copy(HERE.parent / "pyproject.toml", folder)
    work = workspace.start(folder, folder / "work")[0].root
    saved = {topic: (work / topic / "app.py").read_text() for topic, _ in STEPS}
    again = [(topic, f"{text}# {n}\n") for n in range(999) for topic, text in STEPS[1::2]]
    saves = iter(STEPS + again)
    checking, early = number % 4 == 3, moment.random() < 0.2
    shown = folder / "shown"

    def save_for(seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            topic, saved[topic] = next(saves)
            made = work / moment.choice(["made", f"{topic}/app.py~"])
            made.write_text(saved[topic])
            made.replace(work / topic / "app.py")
            time.sleep(min(left, moment.uniform(0, 0.3)))

    with shown.open("wb") as out, subprocess.Popen(
        [*PROVEN, *(["check"] if checking else ["watch"])],
        cwd=work, env=ACTIVATED, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
    ) as process:  # fmt: skip
        if not checking and not early:
            until(lambda: b"rules pass" in shown.read_bytes())
        save_for(moment.uniform(0, 3 if checking or early else 1.5))
        process.kill()
        status = process.wait()
    until(lambda: not graders(work))

    told = shown.read_text()
    verdicts = re.findall(r"^\S ([a-z-]+) (passed|failed|not started)$", told, re.MULTILINE)
    first = re.findall(r"^(?:orders|prices) / ([a-z-]+)$", told, re.MULTILINE)
    state = Progress(work / ".proven").read()
    records = {name.partition("/")[2]: record for name, record in state.rules.items()}
    for rule, said in verdicts:  # what is saved only ever gets better
        assert records[rule].state in {said, PASSED}, (number, rule, said, records[rule])
        assert said != PASSED or records[rule].first_passed
    assert set(first) <= records.keys()
    assert not state.damaged
    assert {topic: (work / topic / "app.py").read_text() for topic in saved} == saved
    assert {file.name for file in (work / ".proven").glob("state.*")} <= {
        "state.json", "state.json.making", "state.lock",
    }  # fmt: skip
    return len(verdicts + first), status


def test_kills_lose_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        seen = list(threads.map(lambda n: killed(tmp_path / str(n), n), range(KILLS)))

    shown = sum(number for number, _ in seen)
    hit = sum(status == -signal.SIGKILL for _, status in seen)
    print(f"\nseed {SEED}: {hit} of {KILLS} killed while they ran; {shown} verdicts were shown")
    assert hit > KILLS // 2
    assert shown >= KILLS


def test_a_topic_that_cannot_be_read_fails_once(work: Path, proven: Proven) -> None:
    (work / "orders/app.py").write_text("def broken(:\n")

    result = proven("check", "orders")

    assert sorted(states(work).values()) == ["failed", "not graded"]
    assert "Python cannot read it" in result.stdout
    assert result.returncode == 1
