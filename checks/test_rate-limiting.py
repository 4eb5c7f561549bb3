import asyncio
import logging
from contextlib import asynccontextmanager, suppress

import pytest
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import ConnectionError as StoreDown

OURS = "the shop's shape"
SOON = "at most 50"
PROXY = "10.0.0.1"
READ = "/shipping?grams=500"


class Peer:
    """Lets a check say who is at the other end of the connection: the header X-Peer."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        peer = dict(scope.get("headers", [])).get(b"x-peer")
        client = {"client": (peer.decode(), 50000)} if peer else {}
        await self.app({**scope, **client}, receive, send)


class Failing(ConnectionPool):
    """A store that is down, or silent: then the app has 20 turns of the loop to give it up."""

    silent = False
    outwaited = 0

    async def get_connection(self, *_, **__):
        if self.silent:
            for _turn in range(20):  # each turn runs the app's timers: a slow machine loses none
                await asyncio.sleep(0.01)
            self.outwaited += 1
        raise StoreDown("the store is down")


@pytest.fixture
def opened(app, db, redis, serve):
    """`client = await opened(reads="1/minute")`: a client that can say who its peer is."""

    async def opened(**seams):
        service = app.create_app(db.engine, redis=redis, **{"verify": same, "patience": 60} | seams)
        service.add_middleware(Peer)
        return await serve(service)

    return opened


async def same(password, digest):
    return password == digest


def earlier(value, seconds):
    try:
        number = float(value)
    except ValueError:
        return value
    unit = 1000 if number > 1e11 else 1
    return number - seconds * unit if number > 1e9 else value


async def later(redis, seconds):
    """Ages what stands in the store: every time in it, and every key, is `seconds` older."""
    for key in await redis.keys():
        kind, left = await redis.type(key), await redis.pttl(key)
        if kind == b"list":
            values = [earlier(value, seconds) for value in await redis.lrange(key, 0, -1)]
            await redis.delete(key)
            await redis.rpush(key, *map(str, values))
        elif kind == b"zset":
            pairs = await redis.zrange(key, 0, -1, withscores=True)
            await redis.zadd(key, {member: earlier(score, seconds) for member, score in pairs})
        elif kind == b"string":
            await redis.set(key, earlier(await redis.get(key), seconds))
        if left > 0:
            await redis.pexpire(key, int(left - seconds * 1000))


@asynccontextmanager
async def between(redis, meet):
    """Runs `meet` right after the first thing that a client of Redis did in the block."""
    met, release = [], redis.connection_pool.release

    async def release_then_meet(connection):
        await release(connection)
        if not met:
            met.append(asyncio.create_task(meet()))
            await asyncio.wait(met, timeout=0.25)  # `meet` may need a lock that the client holds

    redis.connection_pool.release = release_then_meet
    yield
    await (met[0] if met else meet())


async def test_share_the_counter(start, redis):
    """Of two workers that are asked at once for the last place, one gives it."""
    here = redis.another()
    one, other = [
        await start(redis=client, reads="2/minute", patience=60)
        for client in (here, redis.another())
    ]
    told = []

    async def ask(worker):
        told.append((await worker.get(READ)).status_code)

    await ask(other)
    async with between(here, lambda: ask(other)):
        await ask(one)

    assert {"first": told[0], "two for the last place": sorted(told[1:])} == {
        "first": 200,
        "two for the last place": [200, 429],
    }, "at a rate of two a minute"


async def test_count_in_a_moving_window(opened, redis):
    """The rate holds where two windows meet, and a refused request takes no place."""
    client = await opened(reads="2/minute")
    told = {}

    async def ask(when):
        told[when] = (await client.get(READ)).status_code

    await ask("0 s")
    await later(redis, 50)
    await ask("50 s")
    await later(redis, 20)
    await ask("70 s")
    await ask("70 s again")
    await later(redis, 45)
    await ask("115 s")

    assert told == {
        "0 s": 200,
        "50 s": 200,
        "70 s": 200,
        "70 s again": 429,
        "115 s": 200,
    }, "at a rate of two a minute, by the time of each request"


async def test_key_by_who_not_by_header(app, opened, db):
    """A visitor is who the shop's own proxy saw, a customer who has the key of one."""
    ann = app.Customer(email="ann@shop.example", password_digest="-")
    ann.key_digest = app.digest_of("a-key-of-ann-that-is-long")
    await db.add(ann)
    client = await opened(reads="1/minute", proxies=PROXY)
    told = {}

    async def ask(who, peer, forwarded="", key=""):
        headers = {"X-Peer": peer, "X-Real-IP": forwarded.split(",")[0]}
        headers |= {"X-Forwarded-For": forwarded} if forwarded else {}
        headers |= {"Authorization": f"Bearer {key}"} if key else {}
        told[who] = (await client.get(READ, headers=headers)).status_code

    await ask("visitor", PROXY, "203.0.113.9")
    await ask("forged before", PROXY, "198.51.100.1, 203.0.113.9")
    await ask("another visitor", PROXY, "203.0.113.10")
    await ask("past the proxy", "203.0.113.9", "198.51.100.2")
    await ask("made-up key", PROXY, "203.0.113.9", "a-key-of-nobody")
    await ask("customer", PROXY, "203.0.113.9", "a-key-of-ann-that-is-long")
    await ask("customer elsewhere", PROXY, "203.0.113.11", "a-key-of-ann-that-is-long")

    assert told == {
        "visitor": 200,
        "forged before": 429,
        "another visitor": 200,
        "past the proxy": 429,
        "made-up key": 429,
        "customer": 200,
        "customer elsewhere": 429,
    }, "at a rate of one a minute"


async def test_group_addresses_by_network(opened):
    """One IPv6 network is one visitor, one IPv4 address in either notation, and one name."""
    client = await opened(reads="1/minute")
    told = {}

    async def ask(peer):
        reply = await client.get(READ, headers={"X-Peer": peer})
        told[peer] = reply.status_code

    await ask("2001:db8::a")
    await ask("2001:db8::b:c:d:e")
    await ask("2001:db8:1::a")
    await ask("::ffff:203.0.113.9")
    await ask("::ffff:203.0.113.10")
    await ask("203.0.113.10")
    await ask("local")

    assert told == {
        "2001:db8::a": 200,
        "2001:db8::b:c:d:e": 429,
        "2001:db8:1::a": 200,
        "::ffff:203.0.113.9": 200,
        "::ffff:203.0.113.10": 200,
        "203.0.113.10": 429,
        "local": 200,
    }, "at a rate of one a minute"


def shape(reply):
    body = reply.json() if "json" in reply.headers.get("content-type", "") else {}
    return reply.headers.get("content-type"), sorted(body)


async def test_say_when_to_retry(opened, redis):
    """A 429 says in seconds when to come again; who waits that long gets in."""
    client = await opened(reads="2/minute")

    ours = await client.get("/nowhere")
    await client.get(READ)
    await later(redis, 20.6)
    await client.get(READ)
    refused = await client.get(READ)
    seconds = refused.headers.get("retry-after", "none")

    assert {
        "status": refused.status_code,
        "shape": OURS if shape(refused) == shape(ours) else shape(refused),
        "Retry-After": SOON if seconds in map(str, range(1, 51)) else seconds,
    } == {"status": 429, "shape": OURS, "Retry-After": SOON}, (
        f"the next may come in 39.4 s; an error of the shop's own is {shape(ours)}"
    )
    await later(redis, int(seconds))
    waited = await client.get(READ)

    assert {"waited": waited.status_code} == {"waited": 200}, f"after the {seconds} s it was told"


async def test_count_failures_at_login(app, opened, db):
    """Guesses are counted before they are tried, for the account and for the address."""
    emails = "ann@shop.example", "bob@shop.example"
    await db.add(*(app.Customer(email=email, password_digest="right") for email in emails))
    running, tried, gate = 3, [], asyncio.Event()

    def arrived():
        nonlocal running
        running -= 1
        if running == 0:
            gate.set()

    async def verify(password, digest):
        tried.append(password)
        arrived()
        with suppress(TimeoutError):  # an app may try one guess after the other
            await asyncio.wait_for(gate.wait(), 0.25)
        return password == digest

    client = await opened(verify=verify, guesses="2/minute", logins="5/minute")

    async def log_in(email, password, address):
        form = {"email": f"{email}@shop.example", "password": password}
        reply = await client.post("/login", json=form, headers={"X-Peer": address})
        arrived()
        return reply.status_code

    forms = [("ann", "a", "203.0.113.1"), ("Ann", "b", "203.0.113.2"), ("ANN", "c", "203.0.113.3")]
    at_once = sorted(await asyncio.gather(*(log_in(*form) for form in forms)))
    told = {"one account, at once": at_once, "tried": len(tried)}
    forms = [("bob", "x"), ("BOB", "right"), ("bob", "x"), ("cy", "x"), ("cy", "x"), ("dan", "x")]
    told["one network"] = [await log_in(*form, f"2001:db8::{n}") for n, form in enumerate(forms)]
    told["nobody's account"] = await log_in("cy", "x", "203.0.113.4")

    assert told == {
        "one account, at once": [401, 401, 429],
        "tried": 2,
        "one network": [401, 200, 401, 401, 401, 429],
        "nobody's account": 429,
    }, (
        "at two guesses a minute for an account and five tries for an address; "
        "bob's own success forgives his wrong guess; cy has no account"
    )


async def test_choose_how_to_fail(app, start, db, caplog):
    """Without its store the shop can be read and nobody logs in; the log says so."""
    await db.add(app.Customer(email="ann@shop.example", password_digest="right"))
    pool = Failing()
    client = await start(redis=Redis(connection_pool=pool), verify=same, patience=0.001)
    form = {"email": "ann@shop.example", "password": "right"}
    told = {}

    async def ask(what, request):
        caplog.clear()
        reply = await request
        errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
        told[what] = f"{reply.status_code}, {'logged' if errors else 'not logged'}"

    await ask("read, down", client.get(READ))
    await ask("login, down", client.post("/login", json=form))
    pool.silent = True
    await ask("read, silent", client.get(READ))
    await ask("login, silent", client.post("/login", json=form))

    assert told | {"waited out": pool.outwaited} == {
        "read, down": "200, logged",
        "login, down": "503, logged",
        "read, silent": "200, logged",
        "login, silent": "503, logged",
        "waited out": 0,
    }, "what it does without its store; waited out: a silent store that the app did not give up"
