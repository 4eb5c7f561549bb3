"""What code under grade may touch: an audit hook, and a bounded place for its prints.

It stops accidents and plain cheats. It is no jail: code that walks Python's frames or loads C code
gets past it.
"""

import io
import os
import sys
from pathlib import Path
from typing import Any

from ruff import find_ruff_bin  # type: ignore[import-untyped]

PRINTED = 2_000
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {
    "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
    "os.symlink", "os.truncate", "os.utime", "shutil.rmtree", "sqlite3.connect",
}  # fmt: skip
READS = {"os.listdir", "os.scandir"}
STARTS = {
    "os.exec", "os.fork", "os.forkpty", "os.kill", "os.killpg", "os.posix_spawn", "os.spawn",
    "os.system", "pty.spawn", "subprocess.Popen",
}  # fmt: skip


# It runs nothing of the project under grade, and changes no file, whatever its configuration says.
RUFF = (
    find_ruff_bin(), "check", "--no-cache", "--no-fix", "--no-fix-only", "--exit-zero",
    "--output-format", "json", ".",
)  # fmt: skip


class RefusedError(PermissionError):
    """Code under grade tried what it may not; the text says what."""


def guard(folder: Path, hidden: list[Path]) -> None:
    """From now on this process writes only below `folder`, reads nothing below `hidden`, and starts
    no process but `RUFF`, below `folder` and without any environment. It cannot be undone."""
    realpath, fspath, devnull, allowed = os.path.realpath, os.fsdecode, os.devnull, RUFF
    inside = realpath(folder) + os.sep
    closed = tuple(realpath(path) + os.sep for path in hidden)

    def refuse_write(path: Any) -> None:
        if isinstance(path, str | bytes | os.PathLike):
            name = fspath(path)
            if name not in {devnull, ":memory:", ""} and not realpath(name).startswith(inside):
                raise RefusedError(f"may not write {name}: only the current folder is its own")

    def refuse_read(path: Any) -> None:
        if isinstance(path, str | bytes | os.PathLike) and (
            realpath(fspath(path)) + os.sep
        ).startswith(closed):
            raise RefusedError(f"may not read {fspath(path)}")

    def harmless(_program: Any, command: Any, where: Any, environment: Any) -> bool:
        return (
            tuple(command) == allowed
            and environment == {}
            and (realpath(fspath(where or ".")) + os.sep).startswith(inside)
        )

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            refuse_read(path)
            if (isinstance(mode, str) and set(mode) & set("wax+")) or (flags or 0) & WRITING:
                refuse_write(path)
        elif event in CHANGES:
            for path in arguments[:2]:
                refuse_write(path)
        elif event in READS:
            refuse_read(arguments[0])
        elif event == "subprocess.Popen" and harmless(*arguments):
            return
        elif event in STARTS:
            raise RefusedError(f"may not start or signal a process ({event})")

    sys.addaudithook(hook)


class Printed(io.TextIOBase):
    """A standard output that keeps the first 2,000 characters and drops the rest."""

    def __init__(self) -> None:
        self.text = ""

    def writable(self) -> bool:
        """True: it takes text."""
        return True

    def write(self, text: str) -> int:
        """Keeps what there is room for; says it took all."""
        self.text += text[: PRINTED - len(self.text)]
        return len(text)

    def take(self) -> str:
        """What was printed since the last call."""
        text, self.text = self.text, ""
        return text


def silence() -> Printed:
    """Sends the process's own outputs nowhere, and Python's prints to the returned place."""
    printed = Printed()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    sys.stdout = sys.stderr = printed
    return printed
