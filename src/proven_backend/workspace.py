"""A learner's workspace: a folder laid out like exercises/, and `.proven` with what is remembered.

`.proven` holds the state, the stubs as they were handed out (so that an edit can be told from an
untouched stub), and the backups.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from proven_backend.pack import Pack
from proven_backend.progress import Progress

FOLDER = ".proven"
DEFAULT = "work"


class WorkspaceError(Exception):
    """There is no workspace, or not this one: a sentence that says what to do."""


@dataclass(frozen=True)
class Workspace:
    """A workspace, by its folder, and the pack that it belongs to."""

    root: Path
    pack: Pack

    @property
    def own(self) -> Path:
        """Where proven keeps what it remembers."""
        return self.root / FOLDER

    @property
    def progress(self) -> Progress:
        """The learner's progress."""
        return Progress(self.own)

    def handed_out(self, topic: str) -> Path:
        """The topic's stub as the learner got it."""
        return self.own / "stubs" / topic


def checkout(folder: Path) -> Path | None:
    """The checkout of the pack that a folder lies in."""
    for place in (folder, *folder.parents):
        if (place / "skills").is_dir() and (place / "checks").is_dir():
            return place
    return None


def attached(root: Path) -> Path | None:
    """The workspace of a checkout: the one that was started last, else `work` if it is there."""
    note = root / FOLDER / "workspace"
    if note.is_file():
        return (root / note.read_text(encoding="utf-8").strip()).resolve()
    return root / DEFAULT if (root / DEFAULT).is_dir() else None


def find(folder: Path) -> Workspace:
    """The workspace that a folder lies in, or that belongs to the checkout it lies in.

    Raises WorkspaceError where there is none.
    """
    for place in (folder, *folder.parents):
        note = place / FOLDER / "pack"
        if note.is_file():
            root = (place / note.read_text(encoding="utf-8").strip()).resolve()
            if checkout(root) != root:
                raise WorkspaceError(
                    f"the pack of {place} was at {root} and is not there: run "
                    f"`proven start {place}` in its new place"
                )
            return Workspace(place, Pack(root))
    home = checkout(folder)
    if home is None:
        raise WorkspaceError(
            f"{folder} is neither in a workspace nor in a checkout of the pack: change into one"
        )
    mine = attached(home)
    if mine is None or not (mine / FOLDER / "pack").is_file():
        raise WorkspaceError("there is no workspace yet: run `proven start`")
    return Workspace(mine, Pack(home))


def start(root: Path, folder: Path) -> tuple[Workspace, list[str]]:
    """Makes a workspace, or completes one; what is there stays as it is.

    Returns it and the topics that were added. Raises WorkspaceError where the folder is the pack's
    own, OSError where it cannot be written.
    """
    inside = checkout(folder)
    if inside and folder.resolve() in {inside, *(inside / name for name in _PACKS_OWN)}:
        raise WorkspaceError(f"{folder} is the pack's own: name another folder, or none for work/")
    pack = Pack(root)
    workspace = Workspace(folder, pack)
    added = []
    workspace.own.mkdir(parents=True, exist_ok=True)
    for topic in pack.topics():
        if not (folder / topic).exists():
            copy(pack.root / "exercises" / topic, folder / topic)
            added.append(topic)
        if not workspace.handed_out(topic).exists():
            copy(pack.root / "exercises" / topic, workspace.handed_out(topic))
    replace(workspace.own / "pack", _way(root, folder))
    replace(root / FOLDER / "workspace", _way(folder, root))
    return workspace, added


def _way(to: Path, start: Path) -> bytes:
    """A relative path, so that both can be moved together; absolute on another Windows drive."""
    try:
        return Path(os.path.relpath(to, start)).as_posix().encode()
    except ValueError:
        return to.as_posix().encode()


_PACKS_OWN = ("exercises", "solutions", "skills", "checks", "docs", "src", "tests")


def files(folder: Path) -> list[str]:
    """The files of a folder, relative to it; no caches and nothing hidden."""
    return sorted(
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if file.is_file()
        and not any(p.startswith((".", "__pycache__")) for p in file.relative_to(folder).parts)
    )


def content(file: Path) -> bytes | None:
    """What a file holds; None where there is none."""
    return file.read_bytes() if file.is_file() else None


def copy(source: Path, target: Path) -> None:
    """Copies a folder; the target is there whole, or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".making-", dir=target.parent))
    try:
        for name in files(source):
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, made / name)
        made.chmod(0o755)
        made.rename(target)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def replace(file: Path, data: bytes) -> None:
    """Writes a file in one step: it has its old content or the new, whatever happens."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".making-", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as made:
            made.write(data)
            made.flush()
            os.fsync(made.fileno())
        os.chmod(name, 0o644)
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise


def reset(workspace: Workspace, topic: str) -> Path | None:
    """Puts the pack's stub in the place of a topic; returns where the learner's files are kept.

    Nothing is kept (None) where nothing was there. Raises OSError before anything is changed, if
    the copy cannot be made.
    """
    mine, stub = workspace.root / topic, workspace.pack.root / "exercises" / topic
    kept = None
    if mine.is_dir():
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
        kept = workspace.own / "backups" / f"{topic}-{stamp}"
        copy(mine, kept)
        for name in set(files(mine)) - set(files(stub)):
            (mine / name).unlink()
    for name in files(stub):
        replace(mine / name, (stub / name).read_bytes())
    _hand_out(workspace, topic)
    return kept


def update(workspace: Workspace) -> Iterator[tuple[str, str]]:
    """Brings the pack's newest stubs; yields (file, what became of it), also "added topic".

    A file that the learner did not touch is replaced. One that was edited is kept, and the new stub
    is laid beside it as FILE.new.
    """
    for topic in workspace.pack.topics():
        stub, mine = workspace.pack.root / "exercises" / topic, workspace.root / topic
        old = workspace.handed_out(topic)
        if not mine.exists():
            copy(stub, mine)
            yield f"{topic}/", "added"
        for name in sorted({*files(stub), *(files(old) if old.is_dir() else [])}):
            new, given, own = content(stub / name), content(old / name), content(mine / name)
            if new in {given, own}:
                continue
            file = mine / name
            if new is None:
                if own == given:
                    file.unlink()
                    yield (
                        f"{topic}/{name}",
                        "removed: it was untouched, and the exercise has it no more",
                    )
            elif own in {given, None}:
                replace(file, new)
                yield f"{topic}/{name}", "replaced: it was untouched"
            else:
                beside = file.with_name(f"{file.name}.new")
                replace(beside, new)
                yield f"{topic}/{name}", f"kept: yours is edited; the new one is {beside.name}"
        _hand_out(workspace, topic)


def _hand_out(workspace: Workspace, topic: str) -> None:
    """Remembers the pack's stub as the one that the learner has."""
    stub, old = workspace.pack.root / "exercises" / topic, workspace.handed_out(topic)
    for name in set(files(old)) - set(files(stub)) if old.is_dir() else ():
        (old / name).unlink()
    for name in files(stub):
        if content(old / name) != content(stub / name):
            replace(old / name, (stub / name).read_bytes())
