"""`proven doctor`: looks at the machine and the workspace, as a person asks for help would."""

import importlib.metadata
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from watchfiles import watch

from proven_backend import workspace
from proven_backend.message import command
from proven_backend.pack import PackError
from proven_backend.programs import read
from proven_backend.progress import StateError
from proven_backend.workspace import Workspace, WorkspaceError

NEEDED = 200 * 1024 * 1024  # bytes; a run writes databases and copies to the temporary folder


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `mend` is the command or act that mends it, if it is wrong."""

    text: str
    mend: str = ""


def findings(folder: Path) -> Iterator[Finding]:
    """What is right and what is wrong here, in the order in which one would mend it."""
    yield _python()
    yield from _temporary()
    yield _processes()
    try:
        place = workspace.find(folder)
    except WorkspaceError as fault:
        root = workspace.checkout(folder)
        if root:
            yield from _libraries(root)
        what, _, mend = str(fault).partition(": ")
        yield Finding(what, mend)
        return
    yield from _libraries(place.pack.root)
    yield from _pack(place)
    yield from _workspace(place)
    yield _events(place.own)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    old = sys.version_info < (3, 11)
    return Finding(f"Python {version}", "make PYTHON=python3.12 learn" if old else "")


def _libraries(root: Path) -> Iterator[Finding]:
    """What the checkout wants is installed, in the versions that its proof pins."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = root / "constraints.txt"
    lines = pins.read_text(encoding="utf-8").splitlines() if pins.is_file() else []
    named = [line for line in lines if line and not line.startswith("#")]
    pinned = {canonicalize_name(each.name): each.specifier for each in map(Requirement, named)}
    there = {
        canonicalize_name(each.name): each.version for each in importlib.metadata.distributions()
    }
    needed = {canonicalize_name(Requirement(each).name) for each in project["dependencies"]}
    wrong = [f"{name} is missing" for name in sorted(needed - there.keys())]
    wrong += [
        f"{name} is {there[name]}, the rules are proven on {pin}"
        for name, pin in pinned.items()
        if name in there and not pin.contains(there[name], prereleases=True)
    ]
    if wrong:
        pip = [sys.executable, "-m", "pip", "install"]
        if importlib.util.find_spec("pip") is None:
            pip = ["uv", "pip", "install", "--python", sys.executable]
        mend = shlex.join([*pip, "-c", str(pins), "-e", str(root)])
        yield Finding("Libraries: " + "; ".join(wrong), mend)
    else:
        yield Finding(f"{len(pinned.keys() & there.keys())} libraries, as pinned in {pins.name}")


def _temporary() -> Iterator[Finding]:
    for place in dict.fromkeys([tempfile.gettempdir(), "/dev/shm"]):
        if not Path(place).is_dir():
            continue
        free = shutil.disk_usage(place).free
        text = f"{free // 2**20} MiB free in {place}"
        yield Finding(text, f"df -h {place}, and make room" if free < NEEDED else "")


def _processes() -> Finding:
    if hasattr(os, "fork"):
        return Finding("Processes are forked: verdicts come at once")
    return Finding("This system cannot fork: each run takes a second longer (WSL is faster)")


def _pack(place: Workspace) -> Iterator[Finding]:
    root = place.pack.root
    if not (root / ".git").exists() or not shutil.which("git"):
        return
    asked = ["git", "-C", str(root), "status", "--porcelain", "exercises", "checks", "solutions"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    edited = [line[3:] for line in said.splitlines()]
    if edited:
        yield Finding(
            f"Changed in the pack itself: {', '.join(edited[:3])}. You work in {place.root}",
            "copy what is yours, then: "
            + shlex.join(["git", "-C", str(root), "checkout", "exercises", "checks", "solutions"]),
        )


def _workspace(place: Workspace) -> Iterator[Finding]:
    yield Finding(f"The workspace is {place.root}, of the pack in {place.pack.root}")
    for folder in (place.root, place.own):
        if not os.access(folder, os.W_OK):
            yield Finding(
                f"{folder} cannot be written", shlex.join(["chmod", "-R", "u+rwX", str(folder)])
            )
    progress = place.progress
    try:
        state = progress.read()
        if state.damaged:
            yield Finding(
                f"The progress was damaged, and is kept in {state.damaged}",
                f"{command('proven')} check",
            )
        else:
            yield Finding(f"Progress of {len(state.rules)} rules")
    except StateError as fault:
        yield Finding(str(fault), shlex.join(["chmod", "u+rw", str(progress.file)]))
    for topic in place.pack.topics():
        folder = place.root / topic
        if not folder.is_dir():
            yield Finding(f"{topic} is missing in the workspace", f"{command('proven')} start")
            continue
        try:
            read(folder)
        except PackError as fault:
            yield Finding(str(fault), f"{command('proven')} reset {topic}, which keeps a copy")
    for new in sorted(place.root.glob("*/**/*.new")):
        diff = shlex.join(["diff", str(new.with_suffix("")), str(new)])
        yield Finding(f"{new} is a new stub beside yours", f"{diff}, take what you want, delete it")


def _events(folder: Path) -> Finding:
    """Whether the file system tells of changes."""
    probe = folder / "probe"
    try:
        changes = watch(
            folder, rust_timeout=300, yield_on_timeout=True, watch_filter=None, step=10, debounce=50
        )
        for number in range(10):
            probe.write_text(str(number))
            if next(changes):
                return Finding("The file system tells of changes")
    except OSError as fault:
        return Finding(f"No events for files ({fault}): watch looks twice a second instead")
    finally:
        probe.unlink(missing_ok=True)
    return Finding("The file system tells of no changes: watch looks twice a second instead")
