"""The four hints of a rule, each read from the pack: question, reason, wrong code, right code."""

from proven_backend import message
from proven_backend.pack import Pack, PackError, Rule

LEVELS = 4


def find(pack: Pack, name: str) -> Rule:
    """The rule that "rule" or "topic/rule" names. Raises PackError, which names close ones."""
    wanted = name.rpartition("/")[2]
    rules = [rule for topic in pack.topics() for rule in pack.rules(topic)]
    for rule in rules:
        if name in {rule.id, f"{rule.topic}/{rule.id}"}:
            return rule
    words = set(wanted.split("-"))
    close = sorted(rules, key=lambda rule: -len(words & set(rule.id.split("-"))))
    near = [rule.id for rule in close[:5] if words & set(rule.id.split("-"))]
    raise PackError(
        f"no rule is called {name}" + (f": is it one of {', '.join(near)}?" if near else "")
    )


def hint(pack: Pack, rule: Rule, level: int, seen: str) -> str:
    """The text of a level (1 to 4); `seen` is the message of the rule's check, for the first."""
    pair = rule.pairs[0]
    if level == 1:
        todo = message.todo_of(pack, rule)
        question = todo.question if todo else rule.sentence
        observed = seen.partition("\nexpected ")[0].partition("\n")[2]
        return "\n\n".join(part for part in (question, observed) if part)
    if level == 2:
        return f"{rule.sentence}\n{rule.reason}"
    snippet = pair.wrongs[0] if level == 3 else pair.right
    assert snippet is not None
    return f"{snippet.kind}:\n\n{snippet.code}"
