"""What an app did, in order: requests, SQL, transactions, replies and crashes."""

import re
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from proven_backend import frames

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Message, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Event:
    """One thing that happened, its text for a reader, and the line of the check that led to it.

    `sql` is a statement as it was sent, before its parameters.
    """

    kind: str
    text: str
    line: int
    sql: str = ""


@dataclass
class Story:
    """Events in the order in which they happened, and the exceptions that left the app.

    `line` tells where the check is; `looks` are called before each part of a body leaves the app.
    """

    line: Callable[[], int]
    events: list[Event] = field(default_factory=list)
    crashes: list[BaseException] = field(default_factory=list)
    looks: list[Callable[[], object]] = field(default_factory=list)

    def tell(self, kind: str, text: str = "", sql: str = "") -> None:
        """Adds an event of a kind; its text is the kind where none is given."""
        self.events.append(Event(kind, text or kind, self.line(), sql))

    def tell_rival(self, statement: str, before_last: bool) -> None:
        """Adds what another connection committed, before or after the app's last event."""
        last = [self.events.pop()] if before_last else []
        self.tell("rival", f"another connection commits: {statement}")
        self.events += last

    def crashed(self, error: Exception) -> None:
        """Adds an exception that left the app."""
        self.crashes.append(error)
        place = frames.innermost(error.__traceback__)
        self.tell("crash", f"crashed: {one_line(error)}{f' at {place}' if place else ''}")

    def order(self, *kinds: str) -> list[str]:
        """The kinds of the events so far, in order, of those kinds only."""
        return [event.kind for event in self.events if event.kind in kinds]

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """The SQL that is sent inside the block, without parameters; filled when it ends."""
        start, sent = len(self.events), list[str]()
        yield sent
        sent += [event.sql for event in self.events[start:] if event.kind == "sql"]

    def watch(self, engine: AsyncEngine) -> None:
        """Records what the engine sends to its database."""
        target = engine.sync_engine

        @event.listens_for(target, "before_cursor_execute")
        def _sql(
            _conn: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool
        ) -> None:
            kind = statement.split(maxsplit=1)[0].upper() if statement.strip() else "sql"
            if kind == "BEGIN" and self.events and self.events[-1].kind == kind:
                self.events[-1] = Event(kind, statement, self.line())
            if kind in {"BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK", "PRAGMA"}:
                return
            rows = many and isinstance(parameters[0], tuple | list | dict)
            given = f"({len(parameters)} rows)" if rows else repr(parameters)
            self.tell("sql", brief(statement, given), statement)

        for name, kind in {
            "begin": "BEGIN",
            "commit": "COMMIT",
            "rollback": "ROLLBACK",
            "savepoint": "SAVEPOINT",
            "rollback_savepoint": "ROLLBACK TO",
            "release_savepoint": "RELEASE",
        }.items():
            event.listen(target, name, lambda *_, kind=kind: self.tell(kind))

        @event.listens_for(target, "handle_error")
        def _error(context: Any) -> None:
            self.tell(
                "error", f"! {one_line(context.sqlalchemy_exception or context.original_exception)}"
            )

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """The app, with its requests, the start of its replies and its crashes recorded."""

        async def recorded(scope: Message, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return await app(scope, receive, send)
            query = scope["query_string"].decode()
            path = scope["path"] + (f"?{query}" if query else "")
            self.tell("request", f"{scope['method']} {path}")

            async def told(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self.tell("reply", f"< {message['status']}")
                for look in self.looks if message.get("body") else []:
                    look()
                await send(message)

            try:
                await app(scope, receive, told)
            except Exception as error:
                self.crashed(error)
                raise

        return recorded


def one_line(error: BaseException) -> str:
    """An exception as "Type: first line", without SQLAlchemy's statement and link."""
    name, first = type(error).__name__, next(iter(str(error).splitlines()), "")
    if wrapped := re.match(r"\((?:[\w.]+\.)?(\w+)\) (.*)", first):
        name = wrapped[1] if name == "StatementError" else name
        first = wrapped[2]
    return f"{name}: {first}"[:160].removesuffix(": ")


def brief(statement: str, parameters: str = "") -> str:
    """A statement on one line, without its column lists, and its parameters."""
    text = " ".join(statement.split())
    text = re.sub(r"^SELECT .*? FROM ", "SELECT … FROM ", text)
    text = re.sub(
        r"^(INSERT INTO \S+) \(.*?\) VALUES .*?(?= ON CONFLICT| RETURNING|$)", r"\1 …", text
    )
    text = re.sub(r" RETURNING .*", "", text)
    given = "" if parameters in {"()", "{}", "[]", ""} else f" {parameters}"
    return text[:200] + given[:100]
