"""Drops each assert of the checks in turn: the proof must notice every time.

``python tests/weaken.py [TOPIC]``; exit status 1 where an assert can go unnoticed.
"""

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
DATABASES = ("sqlite", "postgresql")
PARTS = [
    *("skills", "exercises", "solutions", "checks", "docs"),
    *("constraints.txt", "mkdocs.yml", "pyproject.toml"),
]


def asserts(file: Path) -> Iterator[tuple[str, ast.Assert]]:
    """Each assert of a file's check functions, with the name of its function."""
    for function in ast.parse(file.read_text()).body:
        if isinstance(function, ast.AsyncFunctionDef | ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Assert):
                    yield function.name, node


def proof(topic: str, *, database: str, check: str = "", without: ast.Assert | None = None) -> str:
    """What the proof of a topic says, with an assert of a check dropped; nothing where it holds.

    With a check only what it judges is run, up to the first fault.
    """
    asked = f"({check.removeprefix('test_').replace('_', '-')} or stub or hollow) and "
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, Path(folder, part))
        checks = Path(folder, "checks", f"test_{topic}.py")
        if without is not None:
            lines = checks.read_text().splitlines(keepends=True)
            indent = " " * without.col_offset
            lines[without.lineno - 1 : without.end_lineno] = [f"{indent}pass\n"]
            checks.write_text("".join(lines))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x"]
        command += ["-k", f"{asked if check else ''}not pack"]
        command += [str(checks), "--prove", f"--database={database}"]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return result.stdout if result.returncode else ""


def noticed(case: tuple[str, str, ast.Assert]) -> bool:
    """Whether the proof fails without one assert; prints which program escaped."""
    topic, function, node = case
    said = ""
    for database in DATABASES:
        said = said or proof(topic, database=database, check=function, without=node)
    heads = [line.strip("_ ") for line in said.splitlines() if line.startswith("___")]
    escaped = [head for head in heads if not head.startswith("ERROR")]
    words = f"escapes: {', '.join(escaped)}" if escaped else "GOES UNNOTICED"
    print(f"{topic} {function}:{node.lineno} {words}", flush=True)
    return bool(escaped)


def main(topics: list[str]) -> int:
    """Runs the loop; returns how many asserts go unnoticed."""
    topics = topics or sorted(path.name for path in (ROOT / "skills").iterdir())
    cases = []
    for topic in topics:
        for database in DATABASES:
            if whole := proof(topic, database=database):
                sys.exit(f"{topic}: the proof fails with all asserts in place:\n{whole}")
        cases += [(topic, *case) for case in asserts(ROOT / "checks" / f"test_{topic}.py")]
    if not cases:
        sys.exit("no assert was found: nothing was tested")
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 2) // 2)) as pool:
        results = list(pool.map(noticed, cases))
    print(f"{len(cases)} asserts dropped in turn, {results.count(False)} unnoticed")
    return min(1, results.count(False))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
