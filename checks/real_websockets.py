"""A rule of websockets with two web processes, which hear of each other by a real Redis."""

import asyncio
from contextlib import AsyncExitStack, suppress

import pytest

NOTES = ["Hurry!", "Please!"]


def token(name):
    return f"not-a-real-token-of-{name}-0123456789abcdef"


async def heard_by(page):
    """The messages that a page gets, as many as notes were sent, or until none comes for long."""
    messages = []
    with suppress(TimeoutError):
        while len(messages) < len(NOTES):
            messages.append(await page.receive_json(timeout=5))
    return messages


@pytest.mark.time_limit(60)
async def test_track_connections_not_users(app, redis, web, db):
    """A note reaches each open page once, at whichever process the page is."""
    order = app.Order(progress=40)
    await db.add(order)
    people = ("ann", "bob")
    for name in people:
        await db.add(app.Login(digest=app.digest(token(name)), customer=name))
        await db.add(app.Member(order_id=order.id, customer=name))

    pages, heard = {}, {}
    # The client may find its socket closed while it closes it, and tells that by an ExceptionGroup.
    with suppress(ExceptionGroup):
        async with AsyncExitStack() as stack:
            for name, process in zip(people, await asyncio.gather(web(), web()), strict=True):
                socket = process.websocket(
                    f"ws://shop/orders/{order.id}/live",
                    headers={"origin": "https://shop.example"},
                    cookies={"session": token(name)},
                )
                pages[name] = await stack.enter_async_context(socket)
                await pages[name].receive_json()
            for note in NOTES:
                await pages["bob"].send_json({"note": note})
            heard = {name: await heard_by(page) for name, page in pages.items()}

    notes = [{"note": note, "by": "bob"} for note in NOTES]
    assert heard == {"ann": notes, "bob": notes}, "ann and bob are at two processes"
