"""Every file that is made from others: `proven generate` writes them."""

from pathlib import Path

from proven_backend import agents, index
from proven_backend.pack import Pack


def generated(pack: Pack) -> dict[Path, bytes]:
    """Every generated file with the content that it must have.

    Raises PackError where the pack lacks what they are made from.
    """
    return {pack.root / "docs" / "rules.md": index.page(pack).encode()} | agents.generated(pack)


def write(pack: Pack) -> list[Path]:
    """Writes the generated files; returns those that changed."""
    changed = []
    for file, content in generated(pack).items():
        if not file.is_file() or file.read_bytes() != content:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            changed.append(file)
    return changed
