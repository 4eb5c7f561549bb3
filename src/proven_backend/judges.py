"""Pack tests by others' judges of skills, and of what a skill costs the agent that loads it."""

import json
import statistics
import subprocess
import sysconfig
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from proven_backend import agents
from proven_backend.pack import Pack, PackError
from proven_backend.packtests import PACK_TESTS, each_topic, pack_test

__all__ = ["PACK_TESTS"]

MOST_TOKENS, MEDIAN_TOKENS = 5_000, 2_500
LINTED = ("skills", "AGENTS.md", ".claude-plugin")  # not ".": agnix would read .venv as well
INSTALL = "is not installed: pip install -e '.[dev]'"


@each_topic
def skills_follow_the_specification(pack: Pack, topic: str) -> Iterator[str]:
    """The reference implementation of the Agent Skills specification accepts each skill."""
    try:
        judge = import_module("skills_ref")
    except ModuleNotFoundError:
        raise PackError(f"skills-ref {INSTALL}") from None
    for fault in judge.validate(pack.skill(topic).parent):
        yield f"skills/{topic}/SKILL.md: agentskills validate says: {fault}"


@pack_test
def agnix_finds_nothing(pack: Pack) -> Iterator[str]:
    """`agnix --strict` has neither errors nor warnings, and has read every skill."""
    program = Path(sysconfig.get_path("scripts"), "agnix")
    if not program.is_file():
        yield f"agnix {INSTALL}"
        return
    paths = [path for path in LINTED if (pack.root / path).exists()]
    command = [str(program), "--strict", "--format", "json", *paths]
    ran = subprocess.run(command, cwd=pack.root, capture_output=True, text=True, check=False)
    try:
        report = json.loads(ran.stdout)
    except ValueError:
        yield f"agnix cannot run (status {ran.returncode}): {ran.stderr.strip()}"
        return
    if report["files_checked"] < max(1, len(pack.topics())):
        yield f"agnix read {report['files_checked']} files for {len(pack.topics())} skills"
    for found in report["diagnostics"]:
        if found["level"] != "info":
            where = f"{found['file']}:{found['line']}"
            yield f"{where}: agnix {found['rule']}: {found['message']} {found['suggestion'] or ''}"


@pack_test
def skills_are_short(pack: Pack) -> Iterator[str]:
    """What an agent loads is short enough, most SKILL.md are shorter, as is the index to paste."""
    try:
        counts = agents.tokens_by_skill(pack)
        index = len(agents.index(pack).encode())
    except PackError as fault:
        yield str(fault)
        return
    if not counts:
        yield "skills/ holds no topic: nothing was tested"
        return
    for topic in counts:
        folder = pack.skill(topic).parent
        for part in [pack.skill(topic), *sorted(folder.glob("references/*.md"))]:
            if (tokens := agents.tokens(part.read_text())) > MOST_TOKENS:
                where = part.relative_to(pack.root)
                yield f"{where} has {tokens} tokens: {MOST_TOKENS} are the most"
    median = statistics.median(counts.values())
    if median > MEDIAN_TOKENS:
        yield (
            f"a SKILL.md has {median:.0f} tokens in the median: {MEDIAN_TOKENS} are the most; "
            "shorten one that docs/tokens.md shows to be longer"
        )
    if index > agents.MOST_BYTES:
        yield f"docs/agents-index.txt has {index} bytes: {agents.MOST_BYTES} are the most"
