"""A WebSocket peer in memory: says to an app what a server says, and can stop reading or vanish.

It behaves like uvicorn. A close before the accept is a 403, a send to a peer that went away raises
OSError in the task that sends, and a socket that the app leaves open when it ends or crashes closes
with 1006.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from proven_backend.story import ASGIApp, Message, Story

TURNS = 600
UPGRADED, FORBIDDEN, FAILED = 101, 403, 500
ABNORMAL = 1006


class PeerGoneError(OSError):
    """What a send to a peer that went away raises."""


async def until(true: Callable[[], object], otherwise: str) -> None:
    """Lets the app work until `true()`; AssertionError with the sentence `otherwise` in the end.

    It counts turns of the loop, not time: on a busy machine they take as much longer as the app's.
    """
    for turn in range(TURNS):
        if true():
            return
        await asyncio.sleep(0 if turn < TURNS / 6 else 0.001)
    raise AssertionError(otherwise)


class Peer:
    """One connection to an app: what the app sent so far, and how it answered and closed.

    `status` is 101 once it is accepted, 403 or what else the app refused it with, 500 where the app
    crashed or ended first. `code` is the app's close code, None while it is open.
    """

    def __init__(
        self,
        app: ASGIApp,
        story: Story,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] = (),
    ) -> None:
        given = {"host": "shop"} | {k.lower(): v for k, v in (headers or {}).items()}
        if cookies:
            given["cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        if subprotocols:
            given["sec-websocket-protocol"] = ", ".join(subprotocols)
        raw, _, query = path.partition("?")
        self._scope: Message = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": unquote(raw),
            "raw_path": raw.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(k.encode(), v.encode("latin-1")) for k, v in given.items()],
            "client": ("127.0.0.1", 50_000),
            "server": ("shop", 80),
            "subprotocols": list(subprotocols),
            "extensions": {"websocket.http.response": {}},
        }
        self.path, self.story = path, story
        self.status = 0
        self.code: int | None = None
        self.subprotocol: str | None = None
        self.received: list[str | bytes] = []
        self._taken, self._gone = 0, False
        self._reads = asyncio.Event()
        self._reads.set()
        self._inbox = asyncio.Queue[Message]()
        self._inbox.put_nowait({"type": "websocket.connect"})
        story.tell("request", f"WebSocket {path}")
        self.task = asyncio.create_task(self._run(app))

    async def opened(self) -> "Peer":
        """This peer, once the app has accepted or refused it."""
        await until(lambda: self.status, f"the app neither accepts nor refuses {self.path}")
        return self

    async def receive(self) -> str | bytes:
        """The next message from the app; AssertionError where it closes, ends or sends nothing."""
        await until(
            lambda: self._taken < len(self.received) or self.code or self.task.done(),
            f"the app sends nothing to a peer of {self.path} that waits for a message",
        )
        if self._taken == len(self.received):
            how = f"closed with {self.code}" if self.code else f"answered {self.status}"
            raise AssertionError(f"a peer of {self.path} waits for a message and is {how}")
        self._taken += 1
        return self.received[self._taken - 1]

    async def receive_json(self) -> Any:
        """The next message from the app, which must be JSON."""
        message = await self.receive()
        try:
            return json.loads(message)
        except ValueError:
            raise AssertionError(f"the app sends no JSON but {message!r}") from None

    async def closed(self) -> int | None:
        """The code with which the app closes, once it does; None where it had not accepted."""
        await until(
            lambda: self.code or self.task.done(), f"the app keeps a socket of {self.path} open"
        )
        return self.code

    def send(self, message: str | bytes) -> None:
        """Sends a text or binary message to the app."""
        self.story.tell("message", f"> {message!r}")
        kind = "text" if isinstance(message, str) else "bytes"
        self._inbox.put_nowait({"type": "websocket.receive", kind: message})

    def send_json(self, value: Any) -> None:
        """Sends a value as JSON text."""
        self.send(json.dumps(value))

    def stop_reading(self) -> None:
        """From now on the app's sends to this peer wait."""
        self._reads.clear()

    def vanish(self) -> None:
        """The connection is lost: sends raise OSError, and the app has not been told yet."""
        self._gone = True
        self._reads.set()

    async def hang_up(self, code: int = 1001) -> None:
        """Ends the connection from this side, and waits until the app is done with it."""
        self.story.tell("message", f"> hangs up with {code}")
        self.vanish()
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": code, "reason": ""})
        await until(self.task.done, f"the app goes on after a peer of {self.path} hung up")

    async def _run(self, app: ASGIApp) -> None:
        try:
            await app(self._scope, self._inbox.get, self._send)
        except PeerGoneError:
            pass
        except Exception as error:  # noqa: BLE001 - code under grade may raise anything
            self.story.crashed(error)
        if not self.status:
            self.status = FAILED
        elif self.status == UPGRADED and self.code is None and not self._gone:
            self.code = ABNORMAL

    async def _send(self, message: Message) -> None:
        await self._reads.wait()
        if self._gone:
            raise PeerGoneError("the peer is gone")
        kind = message["type"]
        if self.code:
            raise RuntimeError(f"{kind} after websocket.close")
        if kind == "websocket.accept":
            self.status, self.subprotocol = UPGRADED, message.get("subprotocol")
            self.story.tell("reply", f"< {self.status}")
        elif not self.status:  # websocket.close or websocket.http.response.start
            self.status = message.get("status", FORBIDDEN)
            self._inbox.put_nowait({"type": "websocket.disconnect", "code": ABNORMAL})
            self.story.tell("reply", f"< {self.status}")
        elif kind == "websocket.close":
            self.code = message.get("code", 1000)
            self._inbox.put_nowait({"type": "websocket.disconnect", "code": self.code})
            self.story.tell("reply", f"< close {self.code}")
        elif kind == "websocket.send":
            text, data = message.get("text"), message.get("bytes")
            self.received.append(data or b"" if text is None else text)
            self.story.tell("reply", f"< {self.received[-1]!r}")
