"""The rule index says of each rule what the proof does with it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROW = re.compile(r"^\| \[`(?P<rule>[^`]+)`\].* \| (?P<servers>[^|]+) \|$", re.MULTILINE)
SERVERS = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


@pytest.mark.parametrize("database", SERVERS)
def test_the_index_names_the_servers_on_which_the_proof_runs_a_wrong(database: str) -> None:
    command = ["-m", "pytest", "-p", "no:cacheprovider", "checks/", "--collect-only", "-q"]
    collected = subprocess.run(
        [sys.executable, *command, "--prove", f"--database={database}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    judged = set(re.findall(r"^checks/test_.*::([a-z0-9-]+) wrong \d+$", collected, re.MULTILINE))
    rows = ROW.finditer((ROOT / "docs" / "rules.md").read_text())
    listed = {row["rule"] for row in rows if SERVERS[database] in row["servers"]}

    assert judged, collected
    assert listed == judged
