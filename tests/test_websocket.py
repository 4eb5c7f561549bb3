"""The WebSocket peer in memory: what an app hears from it, and what it sees of an app."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from conftest import Run
from fastapi import FastAPI, HTTPException, WebSocket, WebSocketDisconnect, WebSocketException

from proven_backend.story import Story
from proven_backend.websocket import Peer

Endpoint = Callable[[WebSocket], Awaitable[None]]


async def meet(endpoint: Endpoint, path: str = "/live", **options: object) -> Peer:
    """A peer of an app with this one endpoint, once it is accepted or refused."""
    app = FastAPI()
    app.websocket("/live")(endpoint)
    return await Peer(app, Story(lambda: 0), path, **options).opened()  # type: ignore[arg-type]


async def echo(socket: WebSocket) -> None:
    await socket.accept("chat")
    await socket.send_json([socket.cookies, socket.headers["origin"], socket.query_params["page"]])
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        await socket.send(
            {"type": "websocket.send", **{k: message[k] for k in message if k != "type"}}
        )


async def test_it_says_who_it_is_and_hears_what_the_app_says() -> None:
    headers, cookies = {"Origin": "http://shop"}, {"session": "a", "lang": "en"}
    peer = await meet(echo, "/live?page=2", headers=headers, cookies=cookies, subprotocols=["chat"])

    peer.send(b"\x00")
    peer.send_json({"tea": 1})

    assert (peer.status, peer.subprotocol) == (101, "chat")
    assert await peer.receive_json() == [cookies, "http://shop", "2"]
    assert await peer.receive() == b"\x00"
    assert await peer.receive_json() == {"tea": 1}

    await peer.hang_up()

    assert (peer.code, peer.story.crashes) == (None, [])
    assert [event.text for event in peer.story.events][:3] == [
        "WebSocket /live?page=2",
        "< 101",
        """< '[{"session":"a","lang":"en"},"http://shop","2"]'""",
    ]


async def close_first(socket: WebSocket) -> None:
    await socket.close(1008)


async def refuse(socket: WebSocket) -> None:
    raise WebSocketException(1008)


async def deny(socket: WebSocket) -> None:
    raise HTTPException(401)


async def say_nothing(socket: WebSocket) -> None:
    pass


async def crash(socket: WebSocket) -> None:
    raise ValueError("no tea")


@pytest.mark.parametrize(
    ("endpoint", "status"),
    [(close_first, 403), (refuse, 403), (deny, 401), (say_nothing, 500), (crash, 500)],
)
async def test_it_is_refused(endpoint: Endpoint, status: int) -> None:
    peer = await meet(endpoint)

    with pytest.raises(AssertionError, match=f"waits for a message and is answered {status}"):
        await peer.receive()

    assert (peer.status, await peer.closed()) == (status, None)
    assert peer.story.order("crash") == (["crash"] if endpoint is crash else [])


async def close_later(socket: WebSocket) -> None:
    await socket.accept()
    await socket.close(1008)


async def crash_later(socket: WebSocket) -> None:
    await socket.accept()
    raise ValueError("no tea")


@pytest.mark.parametrize(("endpoint", "code"), [(close_later, 1008), (crash_later, 1006)])
async def test_it_is_closed(endpoint: Endpoint, code: int) -> None:
    peer = await meet(endpoint)

    assert (peer.status, await peer.closed()) == (101, code)
    with pytest.raises(AssertionError, match=f"closed with {code}"):
        await peer.receive_json()


async def wait(socket: WebSocket) -> None:
    await socket.accept()
    await asyncio.Event().wait()


async def stay_silent(socket: WebSocket) -> None:
    await asyncio.Event().wait()


async def test_an_app_that_does_nothing_is_named_in_a_sentence() -> None:
    peer = await meet(wait)

    with pytest.raises(AssertionError, match="sends nothing to a peer of /live"):
        await peer.receive()
    with pytest.raises(AssertionError, match="keeps a socket of /live open"):
        await peer.closed()
    with pytest.raises(AssertionError, match="goes on after a peer of /live hung up"):
        await peer.hang_up()
    with pytest.raises(AssertionError, match="neither accepts nor refuses /live"):
        await meet(stay_silent)


async def test_sends_to_a_peer_that_does_not_read_wait_and_fail_once_it_is_gone() -> None:
    asked, told = asyncio.Event(), list[str]()

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        await asked.wait()
        try:
            await socket.send_text("tea")
        except WebSocketDisconnect as error:
            told.append(f"disconnected with {error.code}")

    peer = await meet(endpoint)
    peer.stop_reading()
    asked.set()

    with pytest.raises(AssertionError, match="sends nothing"):
        await peer.receive()
    peer.vanish()
    await peer.closed()

    assert (peer.received, told) == ([], ["disconnected with 1006"])


CONNECTS = """

async def test_connect(client, serve, connect):
    from fastapi import FastAPI, WebSocket

    other = FastAPI()

    @other.websocket("/live")
    async def live(socket: WebSocket):
        await socket.accept()
        await socket.receive_text()

    there = await serve(other)

    assert (await connect("/live")).status == 101
    assert (await connect("/live", to=there)).status == 101
    assert (await connect("/live", to=client)).status == 403
"""


def test_a_check_connects_to_the_app_that_it_started(pack: Path, run: Run) -> None:
    checks = pack / "checks" / "test_orders.py"
    checks.write_text(checks.read_text() + CONNECTS)

    result = run("--target=sub", "-k", "test_connect")

    assert "1 passed" in result.stdout
