"""`proven watch`, as a person saves, breaks and mends files under it."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest
from conftest import (
    ACTIVATED,
    LIMIT,
    ONE,
    PRICES,
    PROVEN,
    STUB,
    TWO,
    Proven,
    Start,
    edit,
    graders,
    injected,
    states,
    until,
    verdict,
)

from proven_backend.progress import PASSED

LOOP = "\nwhile True:\n    pass\n"


def limit(pack: Path, seconds: int) -> None:
    """Sets how long a check may take."""
    edit(pack / "pyproject.toml", '"-rN"]', f'"-rN", "--time-limit={seconds}"]')


def test_each_save_is_graded(work: Path, watch: Start) -> None:
    orders, prices = work / "orders/app.py", work / "prices/app.py"
    watcher = watch()

    at_start, passed = verdict(watcher)
    assert (passed, "orders / commit-before-reply\ndone " in at_start) == (0, True)
    assert "where     work/orders/app.py:29" in at_start or "app.py:29" in at_start

    orders.write_text(ONE)
    first_failing, passed = verdict(watcher)
    assert (passed, "orders / list-in-order\ndone " in first_failing) == (1, True)
    assert "commit-before-reply\ndone" not in first_failing
    watcher.expect_exact("1 of 4 rules")

    orders.write_text(ONE)  # as it was: nothing to say
    prices.write_text(PRICES)
    of_prices, passed = verdict(watcher, "prices")
    assert (passed, "orders:" in of_prices) == (2, False)
    watcher.expect_exact("3 of 4 rules")

    assert "\x1b" not in at_start + first_failing + of_prices
    assert states(work) == {
        "orders/commit-before-reply": "passed",
        "orders/list-in-order": "not started",
        "prices/add-the-tax": "passed",
        "prices/share-the-bill": "passed",
    }


def test_all_files_that_are_saved_at_once_are_graded(work: Path, watch: Start) -> None:
    watcher = watch()
    verdict(watcher)

    (work / "prices/app.py").write_text(PRICES)
    (work / "orders/app.py").write_text(TWO)

    until(lambda: list(states(work).values()) == [PASSED] * 4)


def test_a_topic_that_is_named_is_stayed_with(work: Path, watch: Start) -> None:
    watcher = watch("prices")
    verdict(watcher, "prices")

    (work / "orders/app.py").write_text(TWO)
    (work / "prices/app.py").write_text(PRICES)
    shown, passed = verdict(watcher, "prices")

    assert (passed, "orders" in shown) == (2, False)
    assert not any(name.startswith("orders") for name in states(work))


def test_a_save_ends_the_run_before_it(pack: Path, work: Path, watch: Start) -> None:
    limit(pack, 1000)
    watcher = watch()
    verdict(watcher)

    (work / "orders/app.py").write_text(STUB + LOOP)
    until(lambda: len(graders(work)) > 1)
    (work / "orders/app.py").write_text(TWO)
    shown, passed = verdict(watcher)

    assert (passed, "still ran" in shown) == (2, False)
    until(lambda: len(graders(work)) == 1)


def test_an_endless_loop_is_named_by_its_line(pack: Path, work: Path, watch: Start) -> None:
    limit(pack, 1)
    orders, watcher = work / "orders/app.py", watch()
    verdict(watcher)

    orders.write_text(TWO + LOOP)
    at_import, _ = verdict(watcher)
    assert re.search(r"orders: it still ran after 1 s at app\.py:4[89]", at_import)

    orders.write_text(TWO.replace("return {", "while True:\n            pass\n        return {"))
    in_a_route, _ = verdict(watcher)
    assert re.search(r"it still ran after 1 s at app\.py:4[01]", in_a_route)

    orders.write_text(TWO)
    assert verdict(watcher)[1] == 2


LOUD = """
import logging, os, sys
for _ in range(100):
    print("x" * 10**6)
    os.write(1, b"x" * 10**6)
    sys.__stderr__.write("x" * 10**6)
    logging.error("x" * 10**6)
"""


def test_much_output_is_bounded(work: Path, watch: Start) -> None:
    orders, watcher = work / "orders/app.py", watch()
    verdict(watcher)
    before = memory([watcher.pid, *graders(work)])

    orders.write_text(TWO + LOUD)
    loud, passed = verdict(watcher)
    assert (passed, len(loud) < 5_000) == (2, True)

    for code in ('raise RuntimeError("x" * 10**8)', 'return {"sku": "x" * 10**8}'):
        orders.write_text(TWO.replace('return {"sku": sku}', code))
        big, _ = verdict(watcher)
        assert len(big) < 5_000

    orders.write_text(ONE)
    assert verdict(watcher)[1] == 1
    assert memory([watcher.pid, *graders(work)]) - before < 50 * 2**20


def memory(processes: list[int]) -> int:
    """The most that processes ever had, in bytes."""
    told = [Path(f"/proc/{pid}/status").read_text() for pid in processes]
    return sum(int(re.findall(r"VmHWM:\s+(\d+) kB", text)[0]) for text in told) * 1024


def test_half_a_file_is_no_point_lost(work: Path, watch: Start) -> None:
    orders, watcher = work / "orders/app.py", watch()
    orders.write_text(ONE)
    until(lambda: states(work).get("orders/commit-before-reply") == "passed")

    for half, sentence in {
        ONE.encode()[: ONE.index("Depends(open") + 8]: "Python cannot read it",
        b"": "app.py defines no create_app",
        ONE.encode() + "# é".encode()[:-1]: "cannot be read as text",
    }.items():
        orders.write_bytes(half)
        watcher.expect_exact(sentence)
        verdict(watcher)
        watcher.expect_exact("1 of 4 rules")
        orders.write_text(ONE)
        assert verdict(watcher)[1] == 1


def vim(file: Path, text: str) -> None:
    """As vim saves: the old file becomes the backup, and a new one is written."""
    program = shutil.which("vim")
    if program:
        (file.parent.parent / "new").write_text(text)
        read = ["%d", f"0read {file.parent.parent / 'new'}", "wq"]
        command = [program, "-u", "NONE", "-es", "--cmd", "set backupcopy=no backup"]
        subprocess.run([*command, *(f"-c{line}" for line in read), file], check=True)
    else:
        backup = file.with_name(f"{file.name}~")
        file.rename(backup)
        file.write_text(text)
    assert file.read_text() == text


def vs_code(file: Path, text: str) -> None:
    """As VS Code saves: the file is emptied, and written in its place."""
    with file.open("r+") as opened:
        opened.truncate(0)
        opened.write(text)


def pycharm(file: Path, text: str) -> None:
    """As PyCharm saves: written beside, and put in its place by two renames."""
    made, old = (file.with_name(f"{file.name}___jb_{kind}___") for kind in ("tmp", "old"))
    made.write_text(text)
    file.rename(old)
    made.rename(file)
    old.unlink()


def test_editors_save_in_their_ways(work: Path, watch: Start) -> None:
    orders, watcher = work / "orders/app.py", watch()
    verdict(watcher)
    saves: list[tuple[Callable[[Path, str], None], str, int]] = [
        (vim, ONE, 1), (vs_code, TWO, 2), (pycharm, ONE, 1),
        (vim, TWO, 2), (pycharm, STUB, 0), (vs_code, ONE, 1),
    ]  # fmt: skip

    for save, text, passes in saves:
        save(orders, text)
        assert verdict(watcher)[1] == passes, save

    (work / "prices/app.py").write_text(PRICES)
    assert "orders:" not in verdict(watcher, "prices")[0]  # one grading for each save


def test_two_watchers_and_a_check_lose_nothing(work: Path, watch: Start, proven: Proven) -> None:
    watchers = {topic: watch(topic) for topic in ("orders", "prices")}
    for topic, watcher in watchers.items():
        verdict(watcher, topic)

    (work / "orders/app.py").write_text(TWO)
    (work / "prices/app.py").write_text(PRICES)
    checked = proven("check", "orders")

    for topic, watcher in watchers.items():
        assert verdict(watcher, topic)[1] == 2
    assert (checked.returncode, "2 of 2 rules pass" in checked.stdout) == (0, True)
    assert list(states(work).values()) == [PASSED] * 4


NO_EVENTS = {
    "refused": 'raise OSError(28, "inotify watch limit reached")\n    yield',
    "silent": "while not stop_event.wait(0.05):\n        yield set()",
}


@pytest.mark.parametrize("kind", NO_EVENTS)
def test_saves_are_seen_without_events(work: Path, watch: Start, kind: str) -> None:
    fake = f"def watch(*_, stop_event, **__):\n    {NO_EVENTS[kind]}\n"
    source = f"import watchfiles\n{fake}watchfiles.watch = watch\n"
    watcher = watch(**injected(work.parent, source))
    verdict(watcher)

    (work / "orders/app.py").write_text(ONE)

    assert verdict(watcher)[1] == 1


def test_a_grading_process_that_dies_is_started_again(work: Path, watch: Start) -> None:
    watcher = watch()
    verdict(watcher)

    for pid in graders(work):
        os.kill(pid, signal.SIGKILL)
    watcher.expect_exact("the grading process was ended by SIGKILL. The next save starts it again.")
    (work / "orders/app.py").write_text(ONE)
    assert verdict(watcher)[1] == 1


def test_a_pack_that_changes_is_graded_with_its_new_checks(
    pack: Path, work: Path, watch: Start
) -> None:
    check = pack / "checks/test_orders.py"
    watcher = watch()
    verdict(watcher)

    whole = check.read_text()
    check.write_text(whole[: whole.index("commits_fail():")])  # a pull is half-way
    watcher.expect_exact("test_orders.py has no check that can be read: mend it, or pull again")
    check.write_text(whole.replace("the reply left before the commit", "too early"))
    shown, _ = verdict(watcher)

    assert "seen 201, expected 500: too early" in shown


FULL = """
import os, shutil, tempfile
real = shutil.disk_usage
def disk_usage(path):
    usage = real(path)
    return usage._replace(free=0) if os.path.exists(os.environ["FULL"]) else usage
shutil.disk_usage = disk_usage
"""


def test_a_full_disk_is_a_sentence(work: Path, watch: Start, proven: Proven) -> None:
    full = work.parent / "full"
    environment = injected(work.parent, FULL) | {"FULL": str(full)}
    watcher = watch(**environment)
    verdict(watcher)

    full.touch()
    (work / "orders/app.py").write_text(ONE)
    watcher.expect_exact("the grading process ended: no room for the files of a run, 16 MiB")
    checked = proven("check", **environment)
    full.unlink()
    (work / "orders/app.py").write_text(TWO)

    assert verdict(watcher)[1] == 2
    assert checked.returncode == 2
    assert checked.stderr.startswith("proven: the grading process ended: no room for the files")
    assert len(checked.stderr.splitlines()) == 1


def test_a_closed_output_ends_it_quietly(work: Path) -> None:
    with subprocess.Popen(
        [*PROVEN, "watch"], cwd=work, env=ACTIVATED, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as watcher:
        assert watcher.stdout
        assert watcher.stderr
        watcher.stdout.readline()
        watcher.stdout.close()
        (work / "orders/app.py").write_text(ONE)
        watcher.wait(LIMIT)
        assert watcher.stderr.read() == b""
    until(lambda: not graders(work))


IN_A_SHELL = """
trap : INT
stty -a >"$0/before"
"$@"
echo "status $?"
stty -a >"$0/after"
"""


@pytest.fixture
def terminal(work: Path) -> Iterator[Start]:
    """``terminal(TERM="dumb")``: the command in a shell in a terminal of 100 columns."""
    started: list[pexpect.spawn] = []

    def terminal(**environment: str) -> pexpect.spawn:
        screen = pexpect.spawn(
            "sh",
            ["-c", IN_A_SHELL, str(work.parent), *PROVEN, "watch"],
            cwd=str(work),
            env=ACTIVATED | {"TERM": "xterm"} | environment,
            encoding="utf-8",
            timeout=LIMIT,
            dimensions=(50, 100),
        )
        started.append(screen)
        return screen

    yield terminal
    for screen in started:
        screen.close(force=True)


def ended(screen: pexpect.spawn, folder: Path) -> None:
    """The command ended well, and left the terminal as it was."""
    screen.expect_exact("status 0")
    screen.expect(pexpect.EOF)
    screen.close()
    assert (folder / "before").read_text() == (folder / "after").read_text()
    until(lambda: not graders(folder))


def test_keys_in_a_terminal(work: Path, terminal: Start) -> None:
    orders, screen = work / "orders/app.py", terminal()
    screen.expect_exact("q quit")
    orders.write_text(ONE + "# mine\n")
    screen.expect_exact("orders / list-in-order")
    screen.expect_exact("q quit")

    for key, shown in {
        "h": "list-in-order (hint 1 of 4)",
        "hh": "list-in-order (hint 3 of 4)",
        "n": "not done yet",
        "l": "0 of 2",
        "\x1b[A": "",
        "r": "Reset orders to its stub? A copy of yours is kept. [y/N]",
        "n ": "Nothing was reset.",
        "ry": "orders is its stub again. Yours is kept in .proven/backups/orders-",
    }.items():
        screen.send(key)
        screen.expect_exact(shown)
    screen.expect_exact("orders / commit-before-reply")

    assert orders.read_text() == STUB
    assert [f.read_text() for f in work.glob(".proven/backups/*/app.py")] == [ONE + "# mine\n"]
    stored = json.loads((work / ".proven/state.json").read_text())
    assert stored["rules"]["orders/list-in-order"]["hints"] == 3
    screen.send("q")
    ended(screen, work.parent)


@pytest.mark.parametrize("how", ["Ctrl-C", "Ctrl-D", "SIGTERM"])
def test_the_terminal_is_left_as_it_was(work: Path, terminal: Start, how: str) -> None:
    screen = terminal()
    screen.expect_exact("q quit")
    (work / "orders/app.py").write_text(STUB + LOOP)
    screen.expect_exact("grading")

    if how == "SIGTERM":
        stat = Path(f"/proc/{min(graders(work))}/stat").read_text()
        os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGTERM)
    else:
        screen.send({"Ctrl-C": "\x03", "Ctrl-D": "\x04"}[how])

    ended(screen, work.parent)


def test_a_dumb_terminal_gets_plain_lines(work: Path, terminal: Start) -> None:
    screen = terminal(TERM="dumb")
    shown, _ = verdict(screen)
    (work / "orders/app.py").write_text(ONE)
    more, passed = verdict(screen)
    screen.send("q")

    ended(screen, work.parent)
    assert (passed, "\x1b" in shown + more) == (1, False)


def test_no_color_means_none(work: Path, terminal: Start) -> None:
    coloured, plain = terminal(), terminal(NO_COLOR="1")
    colour = re.compile(r"\x1b\[[\d;]*[39]\d")
    texts = []
    for screen in (coloured, plain):
        screen.expect_exact("q quit")
        texts.append(screen.before)
        screen.send("q")

    assert [bool(colour.search(text)) for text in texts] == [True, False]
