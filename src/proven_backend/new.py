"""Lays out the files of a new topic or rule, for those who change the pack: `proven new`.

What is laid out is not proven yet: the proof names what is still to be written.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from proven_backend.pack import Pack, PackError

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

PLACE = re.compile(r"^  - Rule.*: rules.md$")  # of the nav: a new topic stands right above it

SKILL = """\
---
name: {name}
description: Use when … (the symptoms and error strings that a person would type). Not for …
---

# {title}

What goes wrong here, in a line or two.
"""

APP = '''\
"""The task: what the shop does here, what is there already, and the seams of create_app."""

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    pass


def create_app(engine: AsyncEngine) -> FastAPI:
    return FastAPI()
'''

PAGE = """\
# {title}

A short human story: why, a scene in the shop.

## The rules

--8<-- "skills/{name}/SKILL.md:7:"

## Your turn {{ data-search-exclude }}

```python title="exercises/{name}/app.py"
--8<-- "exercises/{name}/app.py"
```

## How it is checked {{ data-search-exclude }}

--8<-- "docs/rules.md:{name}"

--8<-- "docs/rules.md:versions"

```python title="checks/test_{name}.py"
--8<-- "checks/test_{name}.py"
```
"""

RULE = """
### {rule}

**Say what to do, in one sentence.**
The failure that one would see without it, and why.

```python title="wrong"
...
```

```python title="right"
...
```
"""

CHECK = '''

async def test_{function}(app, client, db):
    """What can be observed where the rule is obeyed."""
    raise NotImplementedError
'''


def topic(pack: Pack, name: str) -> Iterator[tuple[Path, str]]:
    """Lays out a topic; yields each file and what is to be written there.

    Raises PackError where the name is taken, or is not in kebab-case.
    """
    _fit(name)
    if name in pack.topics():
        raise PackError(f"there is a topic {name} already")
    title = name.replace("-", " ").capitalize()
    root = pack.root
    yield _write(pack.skill(name), SKILL.format(name=name, title=title)), "description, head, rules"
    yield _write(root / "solutions" / name / "app.py", APP), "the service, solved"
    yield _write(root / "exercises" / name / "app.py", APP), "the same with its TODOs and faults"
    yield _write(pack.checks(name), f'"""{title}."""\n'), "one function a rule"
    yield _write(root / "docs" / f"{name}.md", PAGE.format(name=name, title=title)), "the story"
    evals = pack.skill(name).parent / "evals"
    yield _write(evals / "eval_queries.json", "[]\n"), "what people type: before the description"
    yield (
        _write(evals / "evals.json", f'{{"skill_name": "{name}", "evals": []}}\n'),
        "tasks that tempt an agent",
    )
    nav = root / "mkdocs.yml"
    lines = nav.read_text().splitlines(keepends=True)
    place = next((n for n, line in enumerate(lines) if PLACE.match(line)), len(lines))
    lines.insert(place, f"      - {title}: {name}.md\n")
    nav.write_text("".join(lines))
    yield nav, "its place in the course"


def rule(pack: Pack, name: str, rule: str) -> Iterator[tuple[Path, str]]:
    """Lays out a rule of a topic; yields each file and what is to be written there.

    Raises PackError where there is no such topic, or the name is taken or not in kebab-case.
    """
    _fit(rule)
    if name not in pack.topics():
        raise PackError(f"no topic is called {name}: lay it out by `proven new topic {name}`")
    for each in pack.topics():
        if rule in {known.id for known in pack.rules(each)}:
            raise PackError(f"{each} has a rule {rule} already, and ids are unique in the pack")
    skill = pack.skill(name)
    head, mark, tail = skill.read_text().partition("\n## Read on")
    skill.write_text(head.rstrip("\n") + "\n" + RULE.format(rule=rule) + mark + tail)
    yield skill, "sentence, reason, wrong and right"
    checks = pack.checks(name)
    text = checks.read_text().rstrip("\n") + "\n" + CHECK.format(function=rule.replace("-", "_"))
    checks.write_text(text)
    yield checks, f"test_{rule.replace('-', '_')}"
    yield pack.task("solutions", name), "the right, as whole lines, once"
    yield pack.task("exercises", name), f"the same with `# TODO {rule}: question?` and the fault"


def _fit(name: str) -> None:
    if not NAME.fullmatch(name):
        raise PackError(f"{name} is not in kebab-case, as `commit-before-reply` is")


def _write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file
