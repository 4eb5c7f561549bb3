"""The four hints of a rule, each read from the pack: question, reason, wrong code, right code."""

import textwrap

from proven_backend import message
from proven_backend.pack import Pack, Rule

KINDS = ("the question and what was seen", "the reason", "a wrong code", "the right code")
LEVELS = len(KINDS)


def hint(pack: Pack, rule: Rule, level: int, seen: str) -> str:
    """The text of a level (1 to 4); `seen` is the message of the rule's check, for the first.

    Prose is wrapped to the terminal, code is as it stands.
    """
    if level == 1:
        todo = message.todo_of(pack, rule)
        observed = seen.partition("\nexpected ")[0].partition("\n")[2]
        question = textwrap.fill(todo.question if todo else rule.sentence, message.WIDTH)
        return "\n\n".join(part for part in (question, observed) if part)
    if level == 2:
        return textwrap.fill(f"{rule.sentence} {rule.reason}", message.WIDTH)
    pair = rule.pairs[0]
    snippet = pair.wrongs[0] if level == 3 else pair.right
    assert snippet is not None
    return f"{snippet.kind}:\n\n{snippet.code.rstrip()}"
