"""What one run of a check came to: the words that a child sends to the process that asked."""

import json
from dataclasses import asdict, dataclass, field


@dataclass
class Verdict:
    """The outcome of one check on one program.

    `kind` says how a failure came about: "assertion", "crash" (another exception), "hang", "ended"
    (the process went away), "load" (the program could not be imported; it stands for the whole
    topic). `line` is where in the check it failed; `events` are (kind, text, line of the check);
    `errors` are programming errors that the program raised, `unfinished` the (file, line) of its
    NotImplementedErrors.
    """

    check: str
    passed: bool = False
    kind: str = ""
    message: str = ""
    line: int = 0
    where: str = ""
    events: list[tuple[str, str, int]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    unfinished: list[tuple[str, int]] = field(default_factory=list)
    printed: str = ""
    traceback: str = ""
    seconds: float = 0.0

    def dump(self) -> bytes:
        """One line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> "Verdict":
        """The verdict in a line of JSON; ValueError or TypeError where it is none."""
        return cls(**json.loads(line))
