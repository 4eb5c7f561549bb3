"""Keeps a server for as long as this process lives: no root, no Docker, no network.

A shell keeps the server, and stops it and removes its folder when this process says so or is gone
(a pipe closes; forked children hold it too, so after a `kill -9` the last of them ends the server).
"""

import atexit
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

# The trap is for a reader that is gone before the server is ready: `echo` then fails, and must not
# end the shell.
_SHELL = """
trap : PIPE
ready() {{ echo ready 2>/dev/null; read -r _; }}
{script}
rm -rf "$PWD"
"""


def folder(name: str, *, copied: bool = False) -> str:
    """An empty folder for a server's files, in memory where there is room.

    Not in $TMPDIR: the path of a socket has to be short. With `copied` programs, which memory may
    not be allowed to run, it lies on disk.
    """
    memory = os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 2**30
    parent = "/dev/shm" if memory and not copied else "/tmp"
    return tempfile.mkdtemp(prefix=f"proven-{name}-", dir=parent)


def keep(name: str, script: str, programs: Path, folder: str, user: str | None = None) -> None:
    """Starts a server by a shell script, in `folder`, and returns when it is ready.

    The script gets the path of the server's programs as ``$1``, calls ``ready`` once it answers,
    and stops the server when ``ready`` returns; instead of that it prints why there is none. No
    thread, event loop or connection is left behind: the caller may fork afterwards. Raises
    RuntimeError with what was printed.
    """
    shell = subprocess.Popen(
        ["sh", "-c", _SHELL.format(script=script), name, programs],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=folder,
        user=user,
        text=True,
        start_new_session=True,  # Ctrl-C ends the checks, and they still need the server for that
    )
    assert shell.stdout
    if (said := shell.stdout.readline()) != "ready\n":
        with shell:
            raise RuntimeError(f"{name} did not start:\n{said}{shell.stdout.read()}")
    atexit.register(_stop, os.getpid(), shell)


def _stop(owner: int, shell: subprocess.Popen[str]) -> None:
    if os.getpid() == owner:  # not in a forked child
        shell.communicate("stop\n")
