"""Which files change: told by the file system, and looked for where it tells of nothing."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from threading import Event

from watchfiles import watch

SETTLED, AT_MOST = 5, 150  # ms without another change, and in all, until changes are told
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
        for told in self.moments(stop):
            before, self.stamps = self.stamps, self.look_at(told) if told else self.look()
            if changed := {path for path, _ in before.items() ^ self.stamps.items()}:
                yield changed

    def moments(self, stop: Event) -> Iterator[set[Path]]:
        """When to look: at what the file system tells, and at all twice a second, as it may not."""
        there = [folder for folder in self.folders if folder.is_dir()]
        with suppress(OSError, RuntimeError):  # what watchfiles raises where there are no events
            for told in watch(
                *there, watch_filter=None, stop_event=stop, raise_interrupt=False,
                debounce=AT_MOST, step=SETTLED, rust_timeout=LOOK, yield_on_timeout=True,
            ):  # fmt: skip
                yield {Path(path) for _, path in told}
        while not stop.wait(LOOK / 1000):
            yield set()

    def look(self) -> Stamps:
        """When each file was written, its size and its number."""
        found: Stamps = {}
        for folder in self.folders:
            for place, folders, names in os.walk(folder):
                folders[:] = [name for name in folders if not _hidden(name)]
                found |= _stamps(Path(place, name) for name in names)
        return found

    def look_at(self, files: set[Path]) -> Stamps:
        """The same, where only these files may have changed."""
        kept = {file: stamp for file, stamp in self.stamps.items() if file not in files}
        named = {
            file
            for file in files
            for folder in self.folders
            if file.is_relative_to(folder) and not any(map(_hidden, file.relative_to(folder).parts))
        }
        return kept | _stamps(named)


def _stamps(files: Iterable[Path]) -> Stamps:
    found = {}
    for file in files:
        with suppress(OSError):
            stat = file.stat()
            if S_ISREG(stat.st_mode) and not _hidden(file.name):
                found[file] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return found


def _hidden(name: str) -> bool:
    return name.startswith((".", "__pycache__"))
