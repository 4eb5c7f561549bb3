"""ruff and mypy as checks run them: over the files of a project, with its own configuration.

mypy runs in this process, plugins and all. ruff is a program of its own, which the sandbox allows.
"""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mypy import api, main  # noqa: F401 - api imports main late: so no child has to

from proven_backend.sandbox import RUFF

MYPY = ("--show-error-codes", "--no-error-summary", "--no-pretty", "--no-color-output")


@dataclass(frozen=True)
class Finding:
    """What a tool found: its code ("DTZ003", "no-untyped-def"), where, and its words."""

    code: str
    file: str
    line: int
    text: str


def ruff(project: Path) -> list[Finding]:
    """What ruff finds in the files of a folder, with the configuration that stands there.

    AssertionError with ruff's own words where it cannot read the configuration.
    """
    ran = subprocess.run(RUFF, cwd=project, env={}, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise AssertionError(f"ruff cannot run: {' '.join(ran.stderr.split())}")
    return [
        Finding(
            found["code"] or "invalid-syntax",
            Path(found["filename"]).relative_to(project.resolve()).as_posix(),
            found["location"]["row"],
            found["message"],
        )
        for found in json.loads(ran.stdout)
    ]


def mypy(project: Path, *names: str) -> list[Finding]:
    """What mypy finds in the named files or packages of a folder, with its configuration.

    AssertionError with mypy's own words where it cannot run.
    """
    before = Path.cwd()
    os.chdir(project)
    try:
        said, wrong, status = api.run([*MYPY, "--cache-dir", f"{project.parents[1]}/mypy", *names])
    finally:
        os.chdir(before)
    if wrong or status > 1:
        raise AssertionError(f"mypy cannot run: {' '.join((wrong or said).split())}")
    lines = re.findall(r"^(.+?):(\d+): error: (.+?)(?:  \[([\w-]+)\])?$", said, re.MULTILINE)
    return [Finding(code, file, int(line), text) for file, line, text, code in lines]
