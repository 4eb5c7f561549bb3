"""Imports a program from memory, under a package name that nothing else has."""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FrameType, ModuleType

from proven_backend.programs import Program

PACKAGE = "graded"
_written: list[Path] = []


class _Memory(MetaPathFinder, InspectLoader):
    def __init__(self, program: Program) -> None:
        self.folder = program.folder
        self.files = {PACKAGE: ("", "")}
        for path, text in program.sources.items():
            if not path.endswith(".py"):
                continue
            parts = path.removesuffix(".py").split("/")
            parents = [".".join([PACKAGE, *parts[:end]]) for end in range(1, len(parts))]
            for parent in parents:
                self.files.setdefault(parent, ("", ""))
            name = parts[:-1] if parts[-1] == "__init__" else parts
            self.files[".".join([PACKAGE, *name])] = (path, text)
        self.packages = {name.rpartition(".")[0] for name in self.files} | {PACKAGE}
        self.packages |= {n for n, (f, _) in self.files.items() if f.endswith("__init__.py")}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.files:
            return None
        file = self.files[fullname][0]
        spec = ModuleSpec(fullname, self, loader_state=file, is_package=self.is_package(fullname))
        spec.origin = f"{self.folder}/{file}" if file else None
        spec.has_location = bool(file)
        return spec

    def is_package(self, fullname: str) -> bool:
        return fullname in self.packages

    def get_source(self, fullname: str) -> str:
        return self.files[fullname][1]

    def get_code(self, fullname: str) -> CodeType:
        file, text = self.files[fullname]
        return compile(text, f"{self.folder}/{file}", "exec", dont_inherit=True)


def load(program: Program) -> ModuleType:
    """Imports the program's ``app`` module; whatever its code raises passes through."""
    sys.meta_path.insert(0, _Memory(program))
    return importlib.import_module(f"{PACKAGE}.app")


def unload() -> None:
    """Forgets the program that was loaded."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Memory)]
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def write(program: Program, folder: Path) -> None:
    """Writes the program's files to an empty folder, for tools that read files."""
    for name, text in program.sources.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    if folder not in _written:
        _written.append(folder)


def graded_file(frame: FrameType) -> str:
    """The file of the program, relative to its folder, that a frame runs; nothing elsewhere."""
    spec = frame.f_globals.get("__spec__")
    if isinstance(spec, ModuleSpec) and isinstance(spec.loader, _Memory):
        return str(spec.loader_state)
    file = frame.f_code.co_filename
    for folder in _written:
        if file.startswith(f"{folder}/"):
            return file.removeprefix(f"{folder}/")
    return ""
