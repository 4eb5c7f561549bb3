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

from proven_backend.message import command
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


def home(folder: Path) -> Path:
    """The root of the pack that a folder belongs to: a checkout, or that of a workspace.

    Raises WorkspaceError where there is none.
    """
    return checkout(folder) or find(folder).pack.root


def attached(root: Path) -> Path | None:
    """The workspace of a checkout: the one that was started last, else `work` if it is there."""
    note = root / FOLDER / "workspace"
    if note.is_file():
        return (root / note.read_text(encoding="utf-8").strip()).resolve()
    return root / DEFAULT if (root / DEFAULT).is_dir() else None


def chosen(folder: Path) -> Path:
    """The workspace that `proven start` makes or completes, if no other one is named.

    Raises WorkspaceError where it was moved: a second, empty one would look like lost work.
    """
    if inside := _around(folder):
        return inside
    root = home(folder)
    mine = attached(root) or root / DEFAULT
    if not mine.is_dir() and mine != root / DEFAULT:
        raise _moved(mine)
    return mine


def find(folder: Path) -> Workspace:
    """The workspace that a folder lies in, or that belongs to the checkout it lies in.

    Raises WorkspaceError where there is none.
    """
    if inside := _around(folder):
        root = (inside / (inside / FOLDER / "pack").read_text(encoding="utf-8").strip()).resolve()
        if checkout(root) != root:
            raise WorkspaceError(
                f"the pack of this workspace is not at {root}, where it was: change into the "
                f"checkout, and there run `proven start '{inside}'`"
            )
        return Workspace(inside, Pack(root))
    around = checkout(folder)
    if around is None:
        raise WorkspaceError(
            f"{folder} is neither in a workspace nor in a checkout of the pack: change into one"
        )
    mine = attached(around)
    if mine is None:
        raise WorkspaceError(f"there is no workspace yet: run `{command('proven')} start`")
    if not mine.is_dir():
        raise _moved(mine)
    if not (mine / FOLDER / "pack").is_file():
        raise WorkspaceError(
            f"{mine} was not made by proven: run `{command('proven')} start`, "
            "which keeps your files"
        )
    return Workspace(mine, Pack(around))


def _around(folder: Path) -> Path | None:
    """The workspace that a folder lies in."""
    for place in (folder, *folder.parents):
        if (place / FOLDER / "pack").is_file():
            return place
    return None


def _moved(mine: Path) -> WorkspaceError:
    return WorkspaceError(
        f"the workspace of this checkout is not at {mine}, where it was: name its new place, "
        f"`proven start DIR`; or make a new one, `proven start {DEFAULT}`"
    )


def start(root: Path, folder: Path) -> tuple[Workspace, list[str]]:
    """Makes a workspace, or completes one; what is there stays as it is.

    Returns it and the topics that were added. Raises WorkspaceError where the folder is the pack's
    own or holds something else, OSError where it cannot be written.
    """
    pack = Pack(root)
    workspace = Workspace(folder, pack)
    _refuse_foreign(workspace)
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


def _refuse_foreign(workspace: Workspace) -> None:
    folder = workspace.root
    inside = checkout(folder)
    if inside:
        first = folder.relative_to(inside).parts[:1]
        if not first or first[0] in _PACKS_OWN or first[0].startswith("."):
            raise WorkspaceError(
                f"{folder} is the pack's own: name another folder, or none for {DEFAULT}/"
            )
    if folder.is_dir() and not (folder / FOLDER).is_dir():
        there = {file.name for file in folder.iterdir() if not file.name.startswith(".")}
        if other := sorted(there - {*workspace.pack.topics()}):
            raise WorkspaceError(
                f"{folder} holds something else ({', '.join(other[:3])}): name an empty folder "
                "or a new one"
            )


def _way(to: Path, start: Path) -> bytes:
    """A relative path, so that both can be moved together; absolute on another Windows drive."""
    try:
        return Path(os.path.relpath(to, start)).as_posix().encode()
    except ValueError:
        return to.as_posix().encode()


_BEGUN = ".making-"
_PACKS_OWN = ("exercises", "solutions", "skills", "checks", "docs", "src", "tests")


def files(folder: Path) -> list[str]:
    """The files of a folder, relative to it; no caches, nothing hidden, none where it is not."""
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
    made = Path(tempfile.mkdtemp(prefix=_BEGUN, dir=target.parent))
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
    descriptor, name = tempfile.mkstemp(prefix=_BEGUN, dir=file.parent)
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
    _sweep(workspace)
    kept = None
    if mine.is_dir():
        kept = _backup(workspace, topic)
        for name in set(files(mine)) - set(files(stub)):
            (mine / name).unlink()
    for name in files(stub):
        replace(mine / name, (stub / name).read_bytes())
    _hand_out(workspace, topic)
    return kept


def _sweep(workspace: Workspace) -> None:
    """Removes what a command that was killed had begun to write."""
    for begun in [*workspace.root.glob(f"**/{_BEGUN}*")]:
        shutil.rmtree(begun) if begun.is_dir() else begun.unlink()


def _backup(workspace: Workspace, topic: str) -> Path:
    """Copies a topic as it is now; returns where to."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    kept = workspace.own / "backups" / f"{topic}-{stamp}"
    copy(workspace.root / topic, kept)
    return kept


def update(workspace: Workspace) -> Iterator[tuple[str, str]]:
    """Brings the pack's newest stubs; yields each file that they change, and what became of it.

    A file that the learner did not touch is replaced. One that was edited is kept, and the new stub
    is laid beside it as FILE.new.
    """
    _sweep(workspace)
    for topic in workspace.pack.topics():
        stub, mine = workspace.pack.root / "exercises" / topic, workspace.root / topic
        old = workspace.handed_out(topic)
        if not mine.exists():
            copy(stub, mine)
            yield f"{topic}/", "added"
        for name in sorted({*files(stub), *files(old)}):
            what = _bring(workspace, topic, name)
            if what:
                yield f"{topic}/{name}", what
        _hand_out(workspace, topic)


def _bring(workspace: Workspace, topic: str, name: str) -> str:
    """Brings one file of a stub; says what became of the learner's, or nothing if it is current."""
    file = workspace.root / topic / name
    new = content(workspace.pack.root / "exercises" / topic / name)
    given, own = content(workspace.handed_out(topic) / name), content(file)
    if new in {given, own}:
        return ""
    if new is None:
        if own != given:
            return "kept: yours is edited; the exercise has this file no more"
        file.unlink()
        return "removed: it was untouched, and the exercise has it no more"
    if own in {given, None}:
        replace(file, new)
        return "added" if own is None else "replaced: it was untouched"
    beside = file.with_name(f"{name.rpartition('/')[2]}.new")
    if content(beside) not in {given, new, None}:
        _backup(workspace, topic)
    replace(beside, new)
    return f"kept: yours is edited; the new one is beside it, {beside.name}"


def _hand_out(workspace: Workspace, topic: str) -> None:
    """Remembers the pack's stub as the one that the learner has."""
    stub, old = workspace.pack.root / "exercises" / topic, workspace.handed_out(topic)
    for name in set(files(old)) - set(files(stub)):
        (old / name).unlink()
    for name in files(stub):
        if content(old / name) != content(stub / name):
            replace(old / name, (stub / name).read_bytes())
