"""Walks the whole course through `proven watch`, as a learner who knows the answers.

The solution is applied hunk by hunk; each save must turn exactly the next rule green. Topics can be
named; all of them otherwise.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

from proven_backend.pack import Pack
from proven_backend.programs import original, step

ROOT = Path(__file__).parent.parent
PARTS = ("skills", "exercises", "solutions", "checks", "mkdocs.yml", "pyproject.toml")
PATIENCE = 120  # s for one save, on a machine that does much else
PROVEN = [sys.executable, "-P", "-m", "proven_backend.cli"]


@contextmanager
def course() -> Iterator[Path]:
    """A copy of the pack with a workspace, so that nobody's own is touched."""
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, Path(folder, part))
        subprocess.run([*PROVEN, "start"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        yield Path(folder)


def save(folder: Path, sources: dict[str, str]) -> int:
    """Writes what differs; returns how many files that were."""
    changed = [name for name, text in sources.items() if (folder / name).read_text() != text]
    for name in changed:
        (folder / name).write_text(sources[name])
    return len(changed)


def passing(watch: "subprocess.Popen[str]", topic: str) -> list[str]:
    """The rules that pass in the next run of a topic that is told whole."""
    green: list[str] = []
    assert watch.stdout
    for line in watch.stdout:
        if found := re.match(r"\S ([a-z0-9-]+) passed$", line):
            green.append(found[1])
        elif line.startswith(f"{topic}: "):
            return green
    sys.exit(f"{topic}: proven watch ended, or showed no other verdict in {PATIENCE} s")


def main(wanted: list[str]) -> None:
    """Walks; ends with status 1 at the first save that does not do what it should."""
    steps = 0
    with course() as folder:
        pack = Pack(folder)
        topics = [topic for topic in pack.topics() if not wanted or topic in wanted]
        command = [*PROVEN, "watch"]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as watch:
            passing(watch, pack.topics()[0])
            for topic in topics:
                stub, solution = (
                    original(pack, "exercises", topic),
                    original(pack, "solutions", topic),
                )
                solved: list[str] = []
                for rule in pack.rules(topic):
                    solved.append(rule.id)
                    sources = step(stub, solution, solved).sources
                    written = save(folder / "work" / topic, sources)
                    patience = Timer(PATIENCE, watch.kill)
                    patience.start()
                    while (green := passing(watch, topic)) != solved:
                        # A rule of several files is several saves, and may be graded between them.
                        if green != solved[:-1] and written == 1:
                            sys.exit(f"{topic}: expected {solved} to pass, seen {green}")
                    patience.cancel()
                    steps += 1
                print(f"{topic}: {len(solved)} saves, each turned the next rule green", flush=True)
            watch.terminate()
    print(f"{len(topics)} topics, {steps} saves")


if __name__ == "__main__":
    main(sys.argv[1:])
