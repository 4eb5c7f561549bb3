import asyncio
import os
import re
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from math import inf
from unittest.mock import patch

import jwt
import pytest
from pwdlib import PasswordHash
from pydantic import SecretStr
from sqlalchemy import delete, event, select, update

SECRET = "this-is-not-a-real-secret-but-as-long-as-one-should-be-" * 2
ANN, BOB, PASSWORD = "ann@shop.example", "bob@shop.example", "correct horse battery staple"
HASH = re.compile(r"\$argon2id\$v=19\$m=\d+,t=\d+,p=\d+\$[\w+/]{11,}\$[\w+/]{16,}", re.ASCII)
SHORT, LONG = "fourteen chars", "a" * 128 + "b"
LONGEST = f" {'a' * 125}b "


class Quick:
    """A hasher that costs nothing and keeps which threads called it.

    Like Argon2 it does no work for what only begins like a hash of Argon2's.
    """

    def __init__(self):
        self.threads = []

    def identify(self, stored):
        return True

    def hash(self, password, *, salt=None):
        self.work()
        return f"quick:{password}"

    def verify(self, password, stored):
        if not stored.startswith("$argon2") or HASH.fullmatch(stored):
            self.work()
        return stored.endswith(f":{password}")

    def check_needs_rehash(self, stored):
        return not stored.startswith("quick:")

    def work(self):
        self.threads.append(threading.get_ident())


class Slow(Quick):
    """Holds back the threads that call it until the third has had time to come in."""

    def __init__(self):
        super().__init__()
        self.loops_thread = threading.get_ident()
        self.inside, self.at_once, self.open = [], [0], threading.Event()

    def work(self):
        super().work()
        if threading.get_ident() != self.loops_thread:
            self.inside.append(1)
            self.at_once.append(len(self.inside))
            self.open.wait(1)
            self.inside.pop()

    async def meanwhile(self, *requests):
        """The statuses of requests that are made at once, on which threads, and how many."""
        self.threads.clear()
        replies = asyncio.gather(*requests)
        for _ in range(100):  # turns of the loop and of a thread
            if max(self.at_once) <= 2:
                await asyncio.to_thread(int)
        self.open.set()
        return {
            "told": [reply.status_code for reply in await replies],
            "on the loop": self.threads.count(self.loops_thread),
            "at once": "two at most" if max(self.at_once) <= 2 else "three",
        }


class Shop:
    """The service on a quick hasher, and what its customers do."""

    def __init__(self, start):
        self.start = start
        self.hasher, self.letters = Quick(), {}
        self.seams = {
            "secret": SecretStr(SECRET),
            "send": self.send,
            "hasher": PasswordHash([self.hasher]),
        }

    async def open(self, **seams):
        self.client = await self.start(**self.seams | seams)

    async def send(self, email, token):
        self.letters[email] = token

    async def ask(self, email=ANN):
        return await self.client.post("/customers", json={"email": email})

    async def link(self):
        """The link token in the letter to Bob, who is new."""
        await self.ask(BOB)
        return self.letters.get(BOB)

    async def set_password(self, token, password=PASSWORD):
        return await self.client.post("/password", json={"password": password}, headers=bear(token))

    async def sign_in(self, email=ANN, password=PASSWORD):
        form = {"username": email, "password": password}
        return await self.client.post("/token", data=form)

    async def token(self):
        reply = await self.sign_in()
        return reply.json()["access_token"] if reply.is_success else None

    async def me(self, token):
        return await self.client.get("/me", headers=bear(token))


@pytest.fixture
async def closed(app, start, db):
    """The shop, with Ann for a customer, before its service is started."""
    await db.add(app.Customer(email=ANN, password_hash=f"quick:{PASSWORD}"))
    return Shop(start)


@pytest.fixture
async def shop(closed):
    await closed.open()
    return closed


def bear(token):
    return {"Authorization": f"Bearer {token}"}


def claims(token):
    return jwt.decode(token, options={"verify_signature": False}) if token else {}


def signed(claims, *without, key=SECRET, algorithm="HS256", **other):
    """A token with the claims, some left out, others changed."""
    kept = {name: value for name, value in claims.items() if name not in without}
    return jwt.encode(kept | other, key, algorithm)


async def opening(ask, tokens):
    """The names of the tokens that open the door."""
    return [name for name, token in tokens.items() if (await ask(token)).is_success]


@contextmanager
def local_time(zone):
    """Here the machine's own time is that of a zone, by its POSIX name."""
    try:
        with patch.dict(os.environ, TZ=zone):
            time.tzset()
            yield
    finally:
        time.tzset()


@contextmanager
def outage(engine):
    """Inside the block each statement fails."""

    def fail(*_):
        return "SELECT * FROM the_database_is_down", ()

    event.listen(engine.sync_engine, "before_cursor_execute", fail, retval=True)
    yield
    event.remove(engine.sync_engine, "before_cursor_execute", fail)


def outcome(call, **keywords):
    """What the call returns or raises."""
    try:
        return call(**keywords)
    except Exception as error:  # noqa: BLE001  (whatever refuses the start)
        return error


async def test_refuse_weak_secrets(app, shop, db):
    """A short secret does not start the shop; a password is bounded, and all of it counts."""
    secrets = {"empty": "", "a word": "hunter2", "31 bytes": SECRET[-31:], "32 bytes": SECRET[-32:]}

    ends = {
        name: outcome(
            app.create_app, engine=db.engine, **shop.seams | {"secret": SecretStr(secret)}
        )
        for name, secret in secrets.items()
    }

    started = [name for name, end in ends.items() if not isinstance(end, Exception)]
    assert started == ["32 bytes"], "the secrets with which the shop starts"

    link = await shop.link()
    replies = [await shop.set_password(link, password) for password in (SHORT, LONG, LONGEST)]
    typed = {"all": LONGEST, "72 characters": LONGEST[:72], "no spaces around": LONGEST.strip()}
    let_in = [name for name, part in typed.items() if (await shop.sign_in(BOB, part)).is_success]

    assert {
        "told": [reply.status_code for reply in replies],
        "repeated": re.findall(f"{SHORT}|{LONG}", " ".join(reply.text for reply in replies)),
        "signs in": let_in,
    } == {"told": [422, 422, 204], "repeated": [], "signs in": ["all"]}, (
        "passwords of 14, 129 and 128 characters, and how much of the last one signs in"
    )


async def test_expire_every_token(shop):
    """A token opens the door for its time from now, wherever the server stands, then no more."""
    earlier = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=20)
    with local_time("EST5"):
        fresh = await shop.token()
        todays = shop.client
        await shop.open(clock=lambda: earlier)
        old = {"access": await shop.token(), "link": await shop.link()}
        shop.client = todays

    tokens = {
        "fresh": fresh,
        "20 minutes old": old["access"],
        "without exp": signed(claims(fresh), "exp"),
        "without iat": signed(claims(fresh), "iat"),
    }
    let_in = await opening(shop.me, tokens)

    minutes = {
        kind: (claims(token).get("exp", inf) - earlier.timestamp()) / 60
        for kind, token in old.items()
    }
    assert {"let in": let_in, "minutes": minutes} == {
        "let in": ["fresh"],
        "minutes": {"access": 15, "link": 60},
    }, "the access tokens that were let in, and the life of each kind, on a server in New York"


async def test_pin_the_algorithm(shop):
    """A token is let in only if the secret signed it with HS256, whatever its header says."""
    issued = await shop.token()
    said = claims(issued)
    tokens = {
        "as issued": issued,
        "HS512": signed(said, algorithm="HS512"),
        "HS384": signed(said, algorithm="HS384"),
        "unsigned": signed(said, key=None, algorithm="none"),
        "another key": signed(said, key=SECRET[::-1]),
    }

    let_in = await opening(shop.me, tokens)

    assert let_in == ["as issued"], "the tokens that were let in"


async def test_tell_token_kinds_apart(shop):
    """A link token sets a password and opens nothing else; an access token sets no password."""
    tokens = {"access": await shop.token(), "link": await shop.link()}

    let_in = {
        "/me": await opening(shop.me, tokens),
        "/password": await opening(shop.set_password, tokens),
    }

    assert let_in == {"/me": ["access"], "/password": ["link"]}, "the tokens that were let in"


async def test_answer_401_with_a_challenge(app, shop, db):
    """Whoever is not known, and nobody else, is told 401 and how to sign in."""
    token, link = await shop.token(), await shop.link()

    replies = {
        "good": await shop.me(token),
        "wrong password": await shop.sign_in(password="not her password"),
        "no token": await shop.client.get("/me"),
        "garbage": await shop.me("garbage"),
        "unsigned": await shop.me(signed(claims(token), key=None, algorithm="none")),
        "link token": await shop.me(link),
        "no sub": await shop.me(signed(claims(token), "sub")),
        "sub of an older release": await shop.me(signed(claims(token), sub=ANN)),
    }
    with outage(db.engine):
        replies["database down"] = await shop.me(token)
    await db.execute(update(app.Customer).values(blocked=True))
    replies["blocked"] = await shop.me(token)
    replies["blocked, by link"] = await shop.set_password(link)
    await db.execute(delete(app.Customer))
    replies["deleted"] = await shop.me(token)

    told = {
        name: f"{reply.status_code} {reply.headers.get('www-authenticate', '')[:6]}".strip()
        for name, reply in replies.items()
    }
    well = {"good": "200", "database down": "500"}
    assert told == dict.fromkeys(replies, "401 Bearer") | well, (
        "the status and the scheme of WWW-Authenticate"
    )


async def test_hide_who_exists(app, shop, db):
    """Neither a reply nor the work for it tells a stranger whether an address is a customer's."""
    await db.add(
        app.Customer(email="new@shop.example", password_hash=None),
        app.Customer(email="blocked@shop.example", password_hash=f"quick:{PASSWORD}", blocked=True),
    )

    async def sign_in(email, password=PASSWORD):
        before = len(shop.hasher.threads)
        reply = await shop.sign_in(email, password)
        return reply, len(shop.hasher.threads) - before

    await sign_in("first@shop.example")  # some make here the hash that unknown ones are held to
    right, _ = await sign_in(ANN)
    wrong, hashes = await sign_in(ANN, "not her password")
    told = {
        "unknown": await sign_in("eve@shop.example"),
        "no password yet": await sign_in("new@shop.example"),
        "blocked": await sign_in("blocked@shop.example"),
    }

    seen = {
        name: f"{reply.status_code}, {'same' if reply.text == wrong.text else 'other'} words,"
        f" hashed {done}x"
        for name, (reply, done) in told.items()
    }
    assert {"right": right.status_code} | seen == {"right": 200} | dict.fromkeys(
        seen, f"401, same words, hashed {hashes}x"
    ), "all others should be told what a wrong password is told, after as many hashes"

    known, unknown = await shop.ask(ANN), await shop.ask("joe@shop.example")

    assert {
        "known": f"{known.status_code} {known.text.replace(ANN, '…')}",
        "letters": [*shop.letters],
    } == {
        "known": f"202 {unknown.text.replace('joe@shop.example', '…')}",
        "letters": [ANN, "joe@shop.example"],
    }, "the reply should be that to an unknown address, and both get a letter"


async def test_hash_off_the_loop(app, closed, db):
    """Passwords are hashed off the event loop, two at a time, at full cost, old hashes anew."""
    shop, hasher = closed, Slow()
    await db.execute(update(app.Customer).values(password_hash=f"old:{PASSWORD}"))
    await shop.open(hasher=PasswordHash([hasher]))
    link = await shop.link()

    hashing = await hasher.meanwhile(
        shop.set_password(link), shop.sign_in(), shop.sign_in(), shop.sign_in("eve@shop.example")
    )

    stored = [customer.password_hash for customer in await db.rows(app.Customer)]
    assert hashing | {"hashed anew": [each.partition(":")[0] for each in stored]} == {
        "told": [204, 200, 200, 401],
        "on the loop": 0,
        "at once": "two at most",
        "hashed anew": ["quick", "quick"],
    }, "at once a password set, two sign-ins of who had a hash of an old kind, one of a stranger"

    await shop.open(hasher=None)
    await shop.set_password(await shop.link())

    stored = await db.rows(select(app.Customer.password_hash).where(app.Customer.email != ANN))
    costs = {name.rpartition("$")[0].rpartition("$")[0] for name in stored}
    assert costs == {"$argon2id$v=19$m=65536,t=3,p=4"}, "how a password is hashed by default"
