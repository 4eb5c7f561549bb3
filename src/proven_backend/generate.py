"""The pages that are made from the skills: `proven generate` writes them."""

from pathlib import Path

from proven_backend import agents
from proven_backend.pack import Pack


def generated(pack: Pack) -> dict[Path, bytes]:
    """Every generated file with the content that it must have."""
    return {pack.root / "docs" / "rules.md": _rules(pack).encode()} | agents.generated(pack)


def _rules(pack: Pack) -> str:
    lines = ["# Rule index", "", "Made from the skills by `proven generate`."]
    for topic in pack.topics():
        lines += ["", f"## {topic}", "", "| rule | in one sentence |", "|---|---|"]
        lines += [
            f"| [`{rule.id}`]({topic}.md#{rule.id}) | {rule.sentence.replace('|', chr(92) + '|')} |"
            for rule in pack.rules(topic)
        ]
    return "\n".join(lines) + "\n"


def write(pack: Pack) -> list[Path]:
    """Writes the generated files; returns those that changed."""
    changed = []
    for file, content in generated(pack).items():
        if not file.is_file() or file.read_bytes() != content:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            changed.append(file)
    return changed
