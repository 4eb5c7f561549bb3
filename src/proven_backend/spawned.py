"""A child process where there is no fork: `python -m proven_backend.spawned TASK`.

It collects the checks that it is to run and loads all libraries anew, which takes about a second.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from _pytest.main import wrap_session

from proven_backend import child, fixtures
from proven_backend.programs import Program


def task(
    config: pytest.Config,
    runs: list[child.Run],
    folder: Path,
    hidden: list[Path] | None,
    limit: float,
    slot: int,
) -> dict[str, Any]:
    """What a child has to know, as JSON can hold it."""
    option = config.option
    return {
        "arguments": [
            *("-c", str(config.rootpath / "pyproject.toml"), "--noconftest", "--capture=no"),
            *("-p", "no:cacheprovider", f"--tb={option.tbstyle}", f"--database={option.database}"),
        ],
        "checks": str(runs[0][1][0].path),
        "runs": [
            (asdict(program), [item.name for item in items], until_green)
            for program, items, until_green in runs
        ],
        "folder": str(folder),
        "hidden": None if hidden is None else [str(path) for path in hidden],
        "limit": limit,
        "slot": slot,
        "server": config.stash.get(fixtures.SERVER_URL, None),
        "redis": config.stash.get(fixtures.REDIS_URLS, None),
    }


class _Runner:
    """The plugin that runs a task in the place of pytest's own loop."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self.wanted = wanted

    def pytest_cmdline_main(self, config: pytest.Config) -> Any:
        """Runs the task, in a session of pytest; it ends the process."""
        return wrap_session(config, self.run)

    def run(self, config: pytest.Config, session: pytest.Session) -> None:
        """Runs the checks on each program."""
        wanted = self.wanted
        for key in ("server", "redis"):
            if wanted[key] is not None:
                stash: Any = {"server": fixtures.SERVER_URL, "redis": fixtures.REDIS_URLS}[key]
                config.stash[stash] = wanted[key]
        config.stash[child.SLOT] = wanted["slot"]
        items = {item.name: item for item in session.perform_collect([wanted["checks"]])}
        runs = [
            (
                Program(**program | {"needs": tuple(program["needs"])}),
                [items[name] for name in names],
                until_green,
            )
            for program, names, until_green in wanted["runs"]
        ]
        hidden = wanted["hidden"]
        answers = os.open(wanted["answers"], os.O_WRONLY | os.O_APPEND)
        child.Child(config, answers, wanted["limit"]).run(
            runs, Path(wanted["folder"]), None if hidden is None else list(map(Path, hidden))
        )


if __name__ == "__main__":
    wanted = json.loads(Path(sys.argv[1]).read_text())
    sys.exit(pytest.main(wanted["arguments"], plugins=[_Runner(wanted)]))
