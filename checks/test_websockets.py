"""The checks of websockets: who may open a page's socket, who hears what, what is left of it."""

import asyncio
import json
from contextlib import contextmanager, suppress

from sqlalchemy import event
from sqlalchemy.util import await_only

OUR_PAGE = "https://shop.example"


def token(name):
    return f"not-a-real-token-of-{name}-0123456789abcdef"


def page_of(name, origin=OUR_PAGE):
    """What the browser of a customer sends when a page opens a socket."""
    return {"headers": {"origin": origin}, "cookies": {"session": token(name)}}


async def place(app, db, *members):
    """The address of a new order's socket; its members log in."""
    [live] = await places(app, db, members)
    return live


async def places(app, db, *groups):
    """The address of a new order's socket for each group of members, who log in."""
    orders = [app.Order(progress=40) for _ in groups]
    await db.add(*orders)
    logins, members = [], []
    for order, group in zip(orders, groups, strict=True):
        logins += [app.Login(digest=app.digest(token(name)), customer=name) for name in group]
        members += [app.Member(order_id=order.id, customer=name) for name in group]
    await db.add(*logins, *members)
    return [f"/orders/{order.id}/live" for order in orders]


async def answer(connecting):
    """What a page was told that tried to open a socket; it hangs up again."""
    peer = await connecting
    await peer.hang_up()
    return {101: "let in", 401: "refused", 403: "refused", 404: "refused"}.get(
        peer.status, f"answered {peer.status}"
    )


async def enter(connecting):
    """A page that was let in, after its first message."""
    peer = await connecting
    await peer.receive_json()
    return peer


async def next_of(page):
    """The next message that a page gets; "nothing" where there is none."""
    with suppress(AssertionError):
        return await page.receive_json()
    return "nothing"


async def watching(client, live):
    """How many pages the app says are open."""
    reply = await client.get(live.replace("live", "watchers"))
    return reply.json() if reply.status_code == 200 else f"told {reply.status_code}"


async def test_check_the_origin(app, start, connect, db):
    """Only the shop's own pages may open a socket with a customer's cookie."""
    ours = "https://our-shop.example"
    await start(origins=[ours])
    live = await place(app, db, "ann")

    answers = {
        origin: await answer(connect(live, **page_of("ann", origin)))
        for origin in (
            ours,
            "http://our-shop.example",
            "https://our-shop.example:8443",
            "https://our-shop.example.evil.example",
            "https://not-our-shop.example",
            "https://blog.our-shop.example",
            "null",
        )
    }

    assert answers == dict.fromkeys(answers, "refused") | {ours: "let in"}, (
        "the cookie of ann came along with each of them"
    )


async def test_authenticate_before_accept(app, client, connect, db):
    """Before the accept it is known who comes, by the cookie alone, and that it is a member."""
    live, _ = await places(app, db, ["ann"], ["bob"])
    ours = {"origin": OUR_PAGE}

    answers = {
        "a member": await answer(connect(live, **page_of("ann"))),
        "a member of another order": await answer(connect(live, **page_of("bob"))),
        "somebody without a cookie": await answer(connect(live, headers=ours)),
        "a token that is no login's": await answer(connect(live, **page_of("nobody"))),
        "a member's token in the address": await answer(
            connect(f"{live}?session={token('ann')}&token={token('ann')}", headers=ours)
        ),
    }

    assert answers == dict.fromkeys(answers, "refused") | {"a member": "let in"}


async def test_hold_no_session(app, client, connect, db):
    """An open page keeps no database connection."""
    live = await place(app, db, "ann")

    page = await enter(connect(live, **page_of("ann")))

    assert {"answered": page.status, "connections in use": db.checked_out()} == {
        "answered": 101,
        "connections in use": 0,
    }, "the page is open and silent"


async def test_track_connections_not_users(app, redis, start, connect, db):
    """Each open page is told all of its order once, whoever opened it, and at whichever process."""
    here, there = await start(redis=redis), await start(redis=redis.another())
    live, other = await places(app, db, ["ann", "bob"], ["carl"])
    first = await enter(connect(live, to=here, **page_of("ann")))
    ann = await enter(connect(live, to=here, **page_of("ann")))
    bob = await enter(connect(live, to=there, **page_of("bob")))
    carl = await enter(connect(other, to=here, **page_of("carl")))

    pages = {"two tabs of ann": await watching(here, live)}
    await first.hang_up()
    pages["one of them closed"] = await watching(here, live)

    assert pages == {"two tabs of ann": 2, "one of them closed": 1}

    notes = []
    for page, note in ((bob, "Hurry!"), (ann, "Please!")):
        page.send_json({"note": note})
        notes.append(await asyncio.gather(next_of(ann), next_of(bob)))
    carl.send_json({"note": "Mine?"})
    heard = {"ann and bob": notes, "carl, of another order": await next_of(carl)}

    hurry, please = {"note": "Hurry!", "by": "bob"}, {"note": "Please!", "by": "ann"}
    assert heard == {
        "ann and bob": [[hurry] * 2, [please] * 2],
        "carl, of another order": {"note": "Mine?", "by": "carl"},
    }, "bob, at another process, sent a note, then ann and carl did"


@contextmanager
def right_after_the_look(engine, change):
    """Calls `change` once the app has read a progress, before the app gets what it read."""
    waiting = [change]

    def read(_connection, _cursor, statement, *_):
        if waiting and statement.startswith("SELECT") and "progress" in statement:
            await_only(waiting.pop()())

    event.listen(engine.sync_engine, "after_cursor_execute", read)
    yield
    event.remove(engine.sync_engine, "after_cursor_execute", read)


async def test_always_clean_up(app, start, connect, db):
    """However a page's talk ends, the page is no longer counted among the open ones."""

    async def fails(*_):
        raise RuntimeError("not today")

    def come():
        return connect(live, **page_of("ann"))

    async def its_browser_leaves():
        await (await enter(come())).hang_up()

    async def its_note_fails():
        page = await enter(come())
        page.send_json({"note": "Hurry!"})
        await page.hang_up()

    async def its_look_fails():
        with right_after_the_look(db.engine, fails):
            await (await come()).hang_up()

    async def the_server_stops():
        page = await enter(come())
        page.task.cancel()
        await page.hang_up()

    client = await start(screen=fails)
    live, seen = await place(app, db, "ann", "bob"), {}
    await enter(connect(live, **page_of("bob")))
    idle = len(asyncio.all_tasks())

    for end in (its_browser_leaves, its_note_fails, its_look_fails, the_server_stops):
        await end()
        left, tasks = await watching(client, live), len(asyncio.all_tasks()) - idle
        seen[end.__name__] = f"{left} open, {tasks} tasks more"

    assert seen == dict.fromkeys(seen, "1 open, 0 tasks more"), (
        "bob's page stays open; of those that came and went nothing is left"
    )


RUDE = (
    "no JSON",
    '{"note": ""}',
    '{"note": "%s"}' % ("o" * 501),
    '{"note": "It was me.", "by": "bob"}',
    '["Hurry!"]',
    b"\xff",
)
NOTES = [f"Hurry! {number}" for number in range(6)]


async def notes_of(page):
    """What a page gets up to the last of the notes, or until nothing more comes."""
    got = []
    while got[-1:] != NOTES[-1:] and (message := await next_of(page)) != "nothing":
        got.append(message.get("note", "an error"))
    return got


async def end_of(page):
    """Waits until the app lets go of a page, as long as that may take."""
    with suppress(AssertionError):
        await page.closed()


async def test_shield_the_room_from_one_peer(app, start, connect, db):
    """A page that is rude, lost or slow keeps nothing from the others, and is let go in the end."""
    client = await start(backlog=2)
    live = await place(app, db, "ann", "bob", "carl")
    ann = await enter(connect(live, **page_of("ann")))
    carl = await enter(connect(live, **page_of("carl")))

    lost = await enter(connect(live, **page_of("bob")))
    slow = await enter(connect(live, **page_of("bob")))
    lost.vanish()
    slow.stop_reading()

    for message in (*RUDE, *(json.dumps({"note": note}) for note in NOTES[:-1])):
        ann.send(message)
    ann.send(json.dumps({"note": NOTES[-1]}).encode())
    of_ann, of_carl, _ = await asyncio.gather(notes_of(ann), notes_of(carl), end_of(slow))
    left = await watching(client, live)

    assert {"ann": of_ann, "carl": of_carl, "open pages": left} == {
        "ann": [*["an error" for _ in RUDE], *NOTES],
        "carl": NOTES,
        "open pages": 2,
    }, "ann sent what is no note and then notes, the last as bytes, in one burst: to carl, a lost "
    "page and one that reads no more"


async def told(page):
    """The last progress that a page hears of, from its first message to a note that it sends."""
    progress = (await page.receive_json()).get("progress", "nothing")
    page.send_json({"note": "Still there?"})
    while "note" not in (message := await page.receive_json()):
        progress = message.get("progress")
    return progress


async def test_send_the_present_state_first(app, client, connect, db):
    """A page is told the stored progress as it comes in, and misses no change from then on."""
    live = await place(app, db, "ann", "bob")

    async def pack(progress):
        return await client.put(live.replace("live", "progress"), json={"progress": progress})

    ann = await connect(live, **page_of("ann"))
    with db.commits_fail():
        await pack(90)
    progress = {"ann, as 90 was not stored": await told(ann)}
    with right_after_the_look(db.engine, lambda: pack(70)):
        bob = await connect(live, **page_of("bob"))
        progress["bob, who came as 40 became 70"] = await told(bob)

    assert progress == {"ann, as 90 was not stored": 40, "bob, who came as 40 became 70": 70}, (
        "the last progress that each page was told"
    )
