"""`proven doctor`: looks at the machine and the workspace, as a person asks for help would."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from watchfiles import watch

from proven_backend import message, workspace
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
        mend = f"{message.command('proven')} start" if root else "cd into the checkout"
        yield Finding(str(fault), mend)
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
    """The installed versions against those that the proof pins."""
    pins = root / "constraints.txt"
    lines = pins.read_text(encoding="utf-8").splitlines() if pins.is_file() else []
    pinned = {each.name: each for each in map(Requirement, lines)}
    wanted = importlib.metadata.requires("proven-backend") or []
    names = [req.name for req in map(Requirement, wanted) if not req.marker]
    wrong = []
    for name in names:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        pin = pinned.get(name)
        if pin and not pin.specifier.contains(version, prereleases=True):
            wrong.append(f"{name} is {version}, the rules are proven on {pin.specifier}")
    install = f"{Path(sys.executable)} -m pip install -c {pins} -e {root}"
    if wrong:
        yield Finding("Libraries: " + "; ".join(wrong), install)
    else:
        yield Finding(f"{len(names)} libraries, as pinned in constraints.txt")


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
            f"copy what is yours, then: git -C {root} checkout exercises checks solutions",
        )


def _workspace(place: Workspace) -> Iterator[Finding]:
    yield Finding(f"The workspace is {place.root}, of the pack in {place.pack.root}")
    for folder in (place.root, place.own):
        if not os.access(folder, os.W_OK):
            yield Finding(f"{folder} cannot be written", f"chmod -R u+rwX {folder}")
    progress = place.progress
    try:
        state = progress.read()
        if progress.damaged:
            yield Finding(f"The progress was damaged, and is kept in {progress.damaged}", "proven")
        else:
            yield Finding(f"Progress of {len(state.rules)} rules")
    except StateError as fault:
        yield Finding(str(fault), f"chmod u+rw {progress.file}")
    for topic in place.pack.topics():
        folder = place.root / topic
        if not folder.is_dir():
            yield Finding(f"{topic} is missing in the workspace", "proven start")
            continue
        try:
            read(folder)
        except PackError as fault:
            yield Finding(str(fault), f"proven reset {topic}")
    for new in sorted(place.root.glob("*/**/*.new")):
        old = new.with_suffix("")
        yield Finding(f"{new} is a new stub beside yours", f"diff {old} {new}, then delete it")


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
