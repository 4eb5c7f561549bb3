"""A small pack of two topics in a temporary folder, and pytest run on it as a person would."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pexpect.popen_spawn import PopenSpawn

from proven_backend import workspace

collect_ignore = ["demo", "site"]  # site: see `make site`
HERE = Path(__file__).parent
ACTIVATED = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A copy of the demonstration pack; `sub` is a folder to grade, which holds its solutions."""
    folder = tmp_path / "pack"
    shutil.copytree(HERE / "demo", folder)
    shutil.copy(HERE.parent / "pyproject.toml", folder)
    shutil.copytree(folder / "solutions", folder / "sub")
    return folder


@pytest.fixture
def run(pack: Path) -> Run:
    """``run("--target=sub")``: what ``pytest checks/ --target=sub`` printed, and its status."""

    def run(
        *arguments: str, checks: str = "checks/", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", checks, *arguments]
        return subprocess.run(
            command,
            cwd=pack,
            env=ACTIVATED | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def edit(file: Path, old: str, new: str) -> None:
    """Replaces text that stands in a file exactly once."""
    text = file.read_text()
    assert text.count(old) == 1, f"{file} has {text.count(old)} of {old!r}"
    file.write_text(text.replace(old, new))


PROVEN = [sys.executable, "-P", "-m", "proven_backend.cli"]
LIMIT = 60  # s for anything to happen, on a machine that does much else
STUB = (HERE / "demo/exercises/orders/app.py").read_text()
TWO = (HERE / "demo/solutions/orders/app.py").read_text()
ONE = STUB.replace("Depends(open_session)", 'Depends(open_session, scope="function")')
PRICES = (HERE / "demo/solutions/prices/app.py").read_text()
Watcher = PopenSpawn
Start = Callable[..., Watcher]
Proven = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def work(pack: Path) -> Path:
    """The workspace of the demonstration pack, as ``proven start`` makes it."""
    workspace.start(pack, pack / "work")
    return pack / "work"


@pytest.fixture
def proven(work: Path) -> Proven:
    """``proven("check", "orders")``: what the command printed, and its status."""

    def proven(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROVEN, *arguments],
            cwd=work,
            env=ACTIVATED | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )

    return proven


@pytest.fixture
def watch(work: Path) -> Iterator[Start]:
    """``watch("orders")``: ``proven watch orders`` through pipes, until the test ends."""
    started: list[Watcher] = []

    def watch(*arguments: str, **environment: str) -> Watcher:
        watcher = PopenSpawn(
            [*PROVEN, "watch", *arguments],
            cwd=work,
            env=ACTIVATED | environment,
            encoding="utf-8",
            timeout=LIMIT,
        )
        started.append(watcher)
        return watcher

    yield watch
    for watcher in started:
        watcher.proc.kill()
        watcher.proc.communicate()


def verdict(watcher: Watcher, topic: str = "orders") -> tuple[str, int]:
    """What is shown until the next whole verdict of a topic, and how many of its rules pass."""
    watcher.expect(rf"{topic}: (\d) of \d rules pass \(.*\)\r?\n")
    assert watcher.before is not None
    assert watcher.match is not None
    return watcher.before, int(watcher.match[1])


def graders(place: Path) -> list[int]:
    """The processes that grade a workspace: the warm one, and those that it forked."""
    if not Path("/proc/self/cmdline").is_file():
        listed = subprocess.run(["ps", "-Awwo", "pid=,args="], capture_output=True, check=True)
        processes = [line.split(None, 1) for line in listed.stdout.splitlines()]
    else:
        processes = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                processes.append([folder.name.encode(), (folder / "cmdline").read_bytes()])
    wanted = [b"proven_backend.grader", bytes(place)]
    return [int(pid) for pid, line in processes if all(word in line for word in wanted)]


def until(happened: Callable[[], object]) -> None:
    """Waits for something that tells nobody."""
    end = time.monotonic() + LIMIT
    while not happened():
        assert time.monotonic() < end, f"it did not happen in {LIMIT} s"
        time.sleep(0.02)


def states(work: Path) -> dict[str, str]:
    """The stored state of each rule, by its name."""
    file = work / ".proven/state.json"
    stored = json.loads(file.read_text() if file.is_file() else '{"rules": {}}')
    return {name: record["state"] for name, record in stored["rules"].items()}


def injected(folder: Path, source: str) -> dict[str, str]:
    """The environment in which Python runs `source` before all else."""
    (folder / "injected").mkdir()
    (folder / "injected/sitecustomize.py").write_text(source)
    return {"PYTHONPATH": f"{folder / 'injected'}:{os.environ.get('PYTHONPATH', '')}"}
