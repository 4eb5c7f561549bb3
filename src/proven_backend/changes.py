"""Which files change: told by the file system, and looked for where it tells of nothing."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event

from watchfiles import watch

SETTLED, AT_MOST = 15, 150  # ms without another change, and in all, until changes are told
LOOK = 500  # ms between two looks, where nothing is told
Stamps = dict[Path, tuple[int, int, int]]


class Changes:
    """The files below some folders, as they were at the last look; the first one is now.

    Hidden files and Python's caches are left out; a folder need not be there.
    """

    def __init__(self, folders: list[Path]) -> None:
        self.folders = folders
        self.stamps = self.look()

    def follow(self, stop: Event) -> Iterator[set[Path]]:
        """The files that are not as they were at the look before, until `stop` is set."""
        for _ in self.moments(stop):
            before, self.stamps = self.stamps, self.look()
            if changed := {path for path, _ in before.items() ^ self.stamps.items()}:
                yield changed

    def moments(self, stop: Event) -> Iterator[object]:
        """When to look: as the file system tells, and twice a second, as it may not."""
        there = [folder for folder in self.folders if folder.is_dir()]
        with suppress(OSError, RuntimeError):  # what watchfiles raises where there are no events
            yield from watch(
                *there, watch_filter=None, stop_event=stop, raise_interrupt=False,
                debounce=AT_MOST, step=SETTLED, rust_timeout=LOOK, yield_on_timeout=True,
            )  # fmt: skip
        while not stop.wait(LOOK / 1000):
            yield None

    def look(self) -> Stamps:
        """When each file was written, its size and its number."""
        found = {}
        for folder in self.folders:
            for place, folders, names in os.walk(folder):
                folders[:] = [n for n in folders if not n.startswith((".", "__pycache__"))]
                for file in (Path(place, name) for name in names if not name.startswith(".")):
                    with suppress(OSError):
                        stat = file.stat()
                        found[file] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        return found
