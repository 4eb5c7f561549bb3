"""What agents and their clients read, made from the skills. `docs/agents.md` shows each in use."""

import hashlib
import io
import json
import re
import statistics
import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from proven_backend.pack import Pack, PackError

MOST_BYTES = 8_192  # of the index that is pasted: every session of an agent pays for it
PARTS = ("SKILL.md", "references/*", "assets/*")  # of a skill's folder; the rest is ours
SUMMARY = "Rules for Python backends, each proven by a check: FastAPI, SQLAlchemy, Pydantic."


def generated(pack: Pack) -> dict[Path, bytes]:
    """The files for agents with the content that they must have.

    Raises PackError where a skill's head cannot be read or the tokens cannot be counted.
    """
    docs = pack.root / "docs"
    known = docs / ".well-known" / "agent-skills"
    archives = {topic: _archive(pack, topic) for topic in pack.topics()}
    texts = {
        pack.root / ".claude-plugin" / "marketplace.json": _json(_marketplace(pack)),
        known / "index.json": _json(_discovery(pack, archives)),
        docs / "agents-index.txt": index(pack),
        docs / "tokens.md": _bill(pack),
    }
    files = {file: text.encode() for file, text in texts.items()}
    return files | {known / f"{topic}.zip": content for topic, content in archives.items()}


def index(pack: Pack) -> str:
    """The list of skills and rules that a user pastes into an AGENTS.md, in Markdown."""
    lines = [
        "## Rules for Python backends",
        "",
        "Each line is a skill, when it applies, and its rules. Load the skill before you write or",
        "review such code: it shows for each rule the code that fails and the code that works.",
        "",
    ]
    for topic in pack.topics():
        when = re.split(r" - |\. |; |, (?=\")", pack.description(topic).removeprefix("Use when "))
        rules = ", ".join(rule.id for rule in pack.rules(topic))
        lines.append(f"- **{topic}** ({when[0]}): {rules}")
    return "\n".join(lines) + "\n"


def tokens(text: str) -> int:
    """How many tokens of o200k_base a text has; PackError where the counter is not installed."""
    return len(_encode()(text))


def tokens_by_skill(pack: Pack) -> dict[str, int]:
    """The tokens of each SKILL.md, by topic."""
    return {topic: tokens(pack.skill(topic).read_text()) for topic in pack.topics()}


@cache
def _encode() -> Callable[[str], list[int]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it opens its data by an old name
        try:
            encoding = import_module("bpe_openai").get_encoding("o200k_base")
        except ModuleNotFoundError:
            raise PackError("tokens cannot be counted: pip install -e '.[dev]'") from None
    encode: Callable[[str], list[int]] = encoding.encode_ordinary
    return encode


def _json(content: object) -> str:
    return json.dumps(content, indent=2) + "\n"


def _marketplace(pack: Pack) -> dict[str, object]:
    """For Claude Code. The source is skills/ alone: the whole checkout has the solutions."""
    plugin = {
        "name": "proven-backend",
        "description": SUMMARY,
        "source": "./skills",
        "strict": False,
        "skills": [f"./{topic}" for topic in pack.topics()],
    }
    return {
        "name": "proven-backend",
        "owner": {"name": "Proven Backend"},
        "metadata": {"description": SUMMARY},
        "plugins": [plugin],
    }


def _discovery(pack: Pack, archives: dict[str, bytes]) -> dict[str, object]:
    """What clients that are given the site's address look for."""
    skills = [
        {
            "name": topic,
            "type": "archive",
            "description": pack.description(topic),
            "url": f"{topic}.zip",
            "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
        }
        for topic, content in archives.items()
    ]
    return {
        "$schema": "https://schemas.agentskills.io/discovery/0.2.0/schema.json",
        "skills": skills,
    }


def _archive(pack: Pack, topic: str) -> bytes:
    """A skill's folder as a zip: not compressed, so that each zlib makes the same bytes."""
    folder = pack.skill(topic).parent
    content = io.BytesIO()
    with ZipFile(content, "w") as archive:
        for part in PARTS:
            for file in sorted(folder.glob(part)):
                if file.is_file():
                    entry = ZipInfo(file.relative_to(folder).as_posix())
                    entry.create_system, entry.external_attr = 3, 0o644 << 16
                    archive.writestr(entry, file.read_bytes())
    return content.getvalue()


def _bill(pack: Pack) -> str:
    """The page that says what each skill costs its reader."""
    lines = [
        "# Token bill",
        "",
        "Made from the skills by `proven generate`, in tokens of `o200k_base`. An agent pays for",
        "all descriptions in each session, for a SKILL.md when it loads the skill, for a reference",
        "when it reads it.",
        "",
        "| skill | description | SKILL.md | references | rules | rules a thousand tokens |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    rows = [_row(pack, topic) for topic in pack.topics()]
    for topic, row in zip(pack.topics(), rows, strict=True):
        lines.append(_cells(f"[{topic}]({topic}.md)", *row, _density(row)))
    sums = [sum(column) for column in zip(*rows, strict=True)]
    middle = [round(statistics.median(column)) for column in zip(*rows, strict=True)]
    lines += [_cells("median", *middle, _density(middle)), _cells("all", *sums, _density(sums))]
    return "\n".join(lines) + "\n"


def _row(pack: Pack, topic: str) -> list[int]:
    """Tokens of the description, of SKILL.md and of the references, and the number of rules."""
    references = sorted(pack.skill(topic).parent.glob("references/*.md"))
    return [
        tokens(pack.description(topic)),
        tokens(pack.skill(topic).read_text()),
        sum(tokens(file.read_text()) for file in references),
        len(pack.rules(topic)),
    ]


def _density(row: list[int]) -> str:
    return f"{1000 * row[3] / row[1]:.1f}"


def _cells(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"
