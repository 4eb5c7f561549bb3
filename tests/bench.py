"""How long grading and the proof take, each as a ratio to a floor measured in the same run; and
what the ways to insert rows cost, which a rule teaches.

The floor is an empty test that imports fastapi, sqlalchemy, httpx2 and pytest. The runs take
turns, so that a machine whose speed drifts does it to all of them.
"""

import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bench_bulk

ROOT = Path(__file__).parent.parent
RUNS = 5
FLOOR = "import fastapi, httpx2, pytest, sqlalchemy\n\n\ndef test_nothing():\n    pass\n"
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]


def timed(command: list[str], folder: Path) -> tuple[float, str]:
    """Seconds that a command took, and what it printed; ends the bench where it failed."""
    started = time.perf_counter()
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if result.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{result.stdout}{result.stderr}")
    return seconds, result.stdout


def main() -> None:
    """Runs and prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_floor.py").write_text(FLOOR)
        ways = {
            "floor": ([*PYTEST, "test_floor.py"], Path(folder)),
            "grade the solutions": ([*PYTEST, "checks/", "--target=solutions"], ROOT),
            "prove on SQLite": ([*PYTEST, "checks/", "--prove"], ROOT),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        said = ""
        for _ in range(RUNS):
            for name, (command, where) in ways.items():
                took, said = timed(command, where)
                seconds[name].append(took)
    floor = statistics.median(seconds["floor"])
    print(f"{'':24}{'median s':>10}{'worst s':>10}{'x floor':>10}")
    for name, each in seconds.items():
        median = statistics.median(each)
        print(f"{name:24}{median:10.2f}{max(each):10.2f}{median / floor:10.1f}")
    print(*re.findall(r"^(?:one check run|slowest checks): .*$", said, re.MULTILINE), sep="\n")
    bench_bulk.main()


if __name__ == "__main__":
    main()
