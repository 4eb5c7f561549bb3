"""The pack's own tests: each takes the pack and yields one sentence for every fault."""

from collections.abc import Callable, Iterator

from proven_backend.pack import Pack

PACK_TESTS: dict[str, Callable[[Pack], Iterator[str]]] = {}
