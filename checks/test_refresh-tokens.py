import random
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie

import pytest
from pwdlib import PasswordHash
from pydantic import SecretStr
from sqlalchemy import exists, select, update

SECRET = "this-is-not-a-real-secret-but-as-long-as-one-should-be-" * 2
ANN, BOB = "ann@shop.example", "bob@shop.example"
PASSWORD, NEW = "correct horse battery staple", "another horse battery staple"


class Quick:
    """A hasher that costs nothing, salts as Argon2 does, and counts its calls."""

    def __init__(self):
        self.calls = 0

    def identify(self, stored):
        return True

    def hash(self, password, *, salt=None):
        self.calls += 1
        return f"quick:{salt or self.calls}:{password}"

    def verify(self, password, stored):
        self.calls += 1
        return stored.endswith(f":{password}")


class Shop:
    """The service, and what browsers and thieves send to it; cookies are sent by hand."""

    def __init__(self, start):
        self.start, self.hasher = start, Quick()
        self.now = datetime(2026, 11, 2, 9, tzinfo=UTC)

    async def open(self):
        """From here on, requests go to a new worker."""
        self.client = await self.start(
            secret=SecretStr(SECRET), hasher=PasswordHash([self.hasher]), clock=lambda: self.now
        )

    async def send(self, method, path, cookies="", **body):
        """A reply to a request that has these cookies and no other."""
        self.client.cookies.clear()
        headers = {"Cookie": cookies} if cookies else {}
        return await self.client.request(method, path, headers=headers, json=body or None)

    async def sign_in(self, email=ANN, password=PASSWORD):
        """The cookies of a new sign-in."""
        return cookies(await self.send("POST", "/session", email=email, password=password))

    async def refresh(self, cookies):
        return await self.send("POST", "/session/refresh", cookies)

    async def told(self, **devices):
        """The status that a refresh has on each device."""
        return {name: (await self.refresh(sent)).status_code for name, sent in devices.items()}


@pytest.fixture
async def shop(app, start, db):
    """The shop, with Ann and Bob for customers."""
    for email in (ANN, BOB):
        await db.add(app.Customer(email=email, password_hash=f"quick:0:{PASSWORD}"))
    shop = Shop(start)
    await shop.open()
    return shop


def set_cookies(reply):
    """The cookies that a reply sets."""
    headers = reply.headers.get_list("set-cookie")
    return [morsel for header in headers for morsel in SimpleCookie(header).values()]


def cookies(reply):
    """What a browser sends once it has a reply."""
    return "; ".join(f"{morsel.key}={morsel.value}" for morsel in set_cookies(reply))


async def test_store_only_hashes(app, shop, db):
    """A refresh token cannot be guessed, nor read in the database; a fast hash finds it."""
    random.seed(7)
    first = await shop.sign_in()
    random.seed(7)  # who knows what came before knows what comes next
    second = await shop.sign_in()
    await shop.open()
    hashed = shop.hasher.calls
    refreshed = await shop.refresh(first)
    hashed = shop.hasher.calls - hashed

    rows = " ".join(str(vars(row)) for row in await db.rows(app.RefreshToken))
    tokens = [sent.partition("=")[2] for sent in (first, second, cookies(refreshed))]
    assert {
        "refreshed": refreshed.status_code,
        "slow hashes for it": hashed,
        "different tokens": len({*tokens} - {""}),
        "short tokens": [token for token in tokens if len(token) < 22],
        "tokens in the table": [token for token in tokens if token and token in rows],
    } == {
        "refreshed": 200,
        "slow hashes for it": 0,
        "different tokens": 3,
        "short tokens": [],
        "tokens in the table": [],
    }, "two sign-ins, then a refresh by another worker, all within a second"


@pytest.mark.on_postgresql_too("two refreshes at once wait there for a row, not for the file")
async def test_rotate_on_use(app, shop, db):
    """A refresh token buys one next token, also if two workers get it at the same time."""
    first = await shop.sign_in()
    refreshed = await shop.refresh(first)
    good = app.RefreshToken.used_at.is_(None)
    other_worker = update(app.RefreshToken).where(good).values(used_at=shop.now)
    async with db.rival(other_worker):
        await shop.refresh(cookies(refreshed))

    assert {
        "refreshed": refreshed.status_code,
        "next token": "another" if cookies(refreshed) not in ("", first) else "none",
        "good ones after the race": await db.count(select(app.RefreshToken).where(good)),
    } == {
        "refreshed": 200,
        "next token": "another",
        "good ones after the race": 0,
    }, "two refreshes; in the second another worker, who spends what it finds, comes first"


@pytest.mark.on_postgresql_too("two transactions write at once there")
async def test_revoke_the_family_on_reuse(shop):
    """A spent token that comes back ends its own sign-in for whoever has the newest token."""
    first, other_device = await shop.sign_in(), await shop.sign_in()
    newest = cookies(await shop.refresh(first))
    told = await shop.told(spent=first, newest=newest, other_device=other_device)

    assert told == {"spent": 401, "newest": 401, "other_device": 200}, (
        "three refreshes, the spent token first; the newest is of its family"
    )


async def test_limit_idle_time_and_age(shop):
    """A sign-in ends after 14 days without a refresh, and after 30 days with any number of them."""
    idle, busy = await shop.sign_in(), await shop.sign_in()
    begun, shown, told = shop.now, {}, {}
    for day in (13, 26, 31):
        shop.now = begun + timedelta(days=day)
        refreshed = await shop.refresh(busy)
        told[f"day {day}"], busy = refreshed.status_code, cookies(refreshed)
        if day < 31:
            shown[f"day {day}"] = (await shop.send("GET", "/session", idle)).status_code
        if day == 26:
            told["idle till then"] = (await shop.refresh(idle)).status_code

    assert {"refreshed": told, "shown": shown} == {
        "refreshed": {"day 13": 200, "day 26": 200, "idle till then": 401, "day 31": 401},
        "shown": {"day 13": 200, "day 26": 401},
    }, "two sign-ins by the day after they began; the one that is shown was not refreshed before"


async def test_end_sessions_on_the_server(app, shop, db):
    """After a logout no copy of the cookie is good; no script or foreign page can use one."""
    signed_in = await shop.send("POST", "/session", email=ANN, password=PASSWORD)
    spent, other_device = cookies(signed_in), await shop.sign_in()
    refreshed = await shop.refresh(spent)
    copy = cookies(refreshed)
    left = await shop.send("POST", "/session/logout", spent)
    await db.execute(update(app.RefreshToken).values(used_at=None))  # a refresh that was under way
    await shop.open()
    after = await shop.send("GET", "/session", copy)
    told = await shop.told(copy=copy, other_device=other_device)

    assert {"logout": left.status_code, "cookie after": after.status_code, **told} == {
        "logout": 204,
        "cookie after": 401,
        "copy": 401,
        "other_device": 200,
    }, "a logout with a spent token while a refresh was under way; then another worker is asked"
    for cookie in set_cookies(signed_in) + set_cookies(refreshed):
        shown = {
            "HttpOnly": cookie["httponly"],
            "Secure": cookie["secure"],
            "SameSite": cookie["samesite"].lower() in {"lax", "strict"},
            "Domain": cookie["domain"],
            "Path": cookie["path"],
            "in the JSON": f'"{cookie.value}"' in signed_in.text + refreshed.text,
            "removed at": [each["path"] for each in set_cookies(left) if each.key == cookie.key],
        }
        assert shown == {
            "HttpOnly": True,
            "Secure": True,
            "SameSite": True,
            "Domain": "",
            "Path": "/session",
            "in the JSON": False,
            "removed at": ["/session"],
        }, f"the attributes of the cookie {cookie.key!r}"


@pytest.mark.on_postgresql_too("two transactions write at once there")
async def test_revoke_on_password_change(app, shop, db):
    """A new password ends all that the old one began, also a sign-in that is under way."""
    old, bobs = await shop.sign_in(), await shop.sign_in(BOB)
    change = {"email": ANN, "password": PASSWORD, "new": NEW}
    commits = len(db.order("COMMIT"))
    changed = await shop.send("POST", "/password", **change)
    commits = len(db.order("COMMIT")) - commits
    await db.execute(update(app.RefreshToken).values(used_at=None))  # a refresh that was under way
    new = await shop.sign_in(ANN, NEW)
    shop.now += timedelta(seconds=1)
    before = ~exists().where(app.SignIn.started_at == shop.now)
    once_more = update(app.Customer).where(app.Customer.email == ANN, before)
    async with db.rival(once_more.values(email="new@shop.example", password_hash="quick:0:newer")):
        under_way = await shop.sign_in(ANN, NEW)
    locked_out = ANN in await db.rows(select(app.Customer.email))  # the other worker came too late
    told = await shop.told(old=old, bobs=bobs, under_way=under_way)

    assert {
        "changed": changed.status_code,
        "in how many transactions": commits,
        "new password": "signs in" if new else "is refused",
        **told,
    } == {
        "changed": 204,
        "in how many transactions": 1,
        "new password": "signs in",
        "old": 401,
        "bobs": 200,
        "under_way": 200 if locked_out else 401,
    }, "a new password while a refresh was under way; under_way was verified before the next one"
