"""Names of topics and rules, as a person types them: found, completed, and suggested."""

import difflib
from collections.abc import Iterable
from pathlib import Path

from proven_backend import workspace
from proven_backend.pack import Pack, Rule
from proven_backend.workspace import WorkspaceError


class RefusalError(Exception):
    """What was asked for cannot be done: a sentence that says what to do instead."""


def topic(pack: Pack, name: str) -> str:
    """The topic of that name. Raises RefusalError, which names what was probably meant."""
    topics = pack.topics()
    if name in topics:
        return name
    for rule in _rules(pack):
        if name in {rule.id, f"{rule.topic}/{rule.id}"}:
            raise RefusalError(f"{name} is a rule of the topic {rule.topic}: name the topic")
    raise RefusalError(f"no topic is called {name}{_or_else(name, topics)}")


def rule(pack: Pack, name: str) -> Rule:
    """The rule of the name "rule" or "topic/rule". Raises RefusalError, as `topic` does."""
    rules = _rules(pack)
    for each in rules:
        if name in {each.id, f"{each.topic}/{each.id}"}:
            return each
    if name in pack.topics():
        own = ", ".join(each.id for each in pack.rules(name))
        raise RefusalError(f"{name} is a topic: name one of its rules, {own}")
    within, _, last = name.rpartition("/")
    near = [each for each in rules if each.topic == within] or rules
    raise RefusalError(f"no rule is called {name}{_or_else(last, [each.id for each in near])}")


def wanted(pack: Pack, name: str | None) -> dict[str, list[str]]:
    """The topics, each with its rules (none: all), that TOPIC, RULE, TOPIC/RULE or nothing names.

    Raises RefusalError where the name is of neither.
    """
    if name is None:
        return {each: [] for each in pack.topics()}
    if name in pack.topics():
        return {name: []}
    names = [*pack.topics(), *(each.id for each in _rules(pack))]
    if "/" not in name and name not in names:
        raise RefusalError(f"no topic and no rule is called {name}{_or_else(name, names)}")
    found = rule(pack, name)
    return {found.topic: [found.id]}


def complete_topics() -> list[str]:
    """What a shell may offer for a topic; typer drops what does not begin as the word does."""
    pack = _pack()
    return pack.topics() if pack else []


def complete_rules(incomplete: str) -> list[str]:
    """What a shell may offer for a rule; with its topic once there is a "/" in the word."""
    pack = _pack()
    rules = _rules(pack) if pack else []
    return [f"{each.topic}/{each.id}" if "/" in incomplete else each.id for each in rules]


def complete_all(incomplete: str) -> list[str]:
    """What a shell may offer for a topic or a rule."""
    return [*complete_topics(), *complete_rules(incomplete)]


def _pack() -> Pack | None:
    try:
        return Pack(workspace.home(Path.cwd()))
    except WorkspaceError:
        return None


def _rules(pack: Pack) -> list[Rule]:
    return [rule for topic in pack.topics() for rule in pack.rules(topic)]


def _or_else(name: str, names: Iterable[str]) -> str:
    """What was probably meant: like it in its letters, else in its words."""
    names = list(names)
    words = set(name.split("-"))
    shared = sorted(names, key=lambda each: -len(words & set(each.split("-"))))
    near = difflib.get_close_matches(name, names, 3) or [
        each for each in shared[:3] if words & set(each.split("-"))
    ]
    return f": did you mean {' or '.join(near)}?" if near else ": `proven list` names them all"
