"""How long a learner waits: from a save to the verdict on the screen of `proven watch`.

Side by side with a cold `pytest checks/test_TOPIC.py`, for a file that passes and one that fails.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pexpect
from walk import PROVEN, course

TOPIC = "sqlalchemy-sessions"
RUNS = 20
PASSES, FAILS = "7 of 7 rules pass", "\nnext "  # the last lines that the screen shows of either


def main() -> None:
    """Runs, one after the other, and prints the table."""
    with course() as folder:
        file = folder / "work" / TOPIC / "app.py"
        texts = {
            kind: (folder / source / TOPIC / "app.py").read_text()
            for kind, source in (("passing", "solutions"), ("failing", "exercises"))
        }
        watch = pexpect.spawn(
            PROVEN[0],
            [*PROVEN[1:], "watch", TOPIC],
            cwd=str(folder),
            dimensions=(50, 110),
            encoding="utf-8",
            timeout=60,
        )
        watch.expect("rules\\b")
        seconds: dict[str, list[float]] = {}
        for number in range(RUNS):
            for kind, text in texts.items():
                time.sleep(1)  # the run before it is over
                warm = seconds.setdefault(f"save -> verdict, {kind}", [])
                while not watch.expect([".+", pexpect.TIMEOUT], timeout=0):
                    pass
                started = time.perf_counter()
                file.write_text(f"{text}# {number}\n")
                watch.expect(PASSES if kind == "passing" else "\nseen|where")
                warm.append(time.perf_counter() - started)
                cold = seconds.setdefault(f"cold pytest, {kind}", [])
                command = [sys.executable, "-m", "pytest", "-q", f"checks/test_{TOPIC}.py"]
                started = time.perf_counter()
                subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=False)
                cold.append(time.perf_counter() - started)
        watch.close(force=True)
    print(f"\n{TOPIC}, {RUNS} saves each{'':13}{'median s':>10}{'worst s':>10}{'ratio':>10}")
    for kind in texts:
        warm, cold = seconds[f"save -> verdict, {kind}"], seconds[f"cold pytest, {kind}"]
        floor = statistics.median(warm)
        for name, each in ((f"save -> verdict, {kind}", warm), (f"cold pytest, {kind}", cold)):
            median = statistics.median(each)
            print(f"{name:40}{median:10.2f}{max(each):10.2f}{median / floor:10.1f}")
    print(Path("/proc/loadavg").read_text().strip() if os.path.exists("/proc/loadavg") else "")


if __name__ == "__main__":
    main()
