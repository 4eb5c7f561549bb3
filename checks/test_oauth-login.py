"""The checks of oauth-login: what the shop tells browsers and the carrier, and what it keeps."""

import asyncio
import re
from base64 import urlsafe_b64encode
from collections import Counter
from contextlib import nullcontext
from functools import partial
from hashlib import sha256
from itertools import count
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest
from sqlalchemy import event, select, text

ANN = {"sub": "110169484474386276334", "email": "ann@post.example"}
EVE = {"sub": "110169484474386276335", "email": "eve@post.example"}
SECRET = "not-a-real-secret-of-the-shop-at-the-carrier"
KEY, NEW_KEY = (urlsafe_b64encode(bytes([n]) * 32).decode() for n in (1, 2))
HOME = "https://shop.example"


class Carrier(httpx2.MockTransport):
    """The provider: its codes and tokens work as RFC 6749 has it; keeps the URLs it was asked."""

    def __init__(self):
        super().__init__(self.answer)
        self.numbers, self.urls, self.refreshes = count(1), [], 0
        self.codes, self.access, self.spare = {}, {}, {}
        self.trouble = None

    def consent(self, begun, person):
        """What the browser of this person brings back to the shop."""
        code = f"code-{next(self.numbers)}"
        self.codes[code] = (asked(begun), person)
        return {"code": code, "state": asked(begun).get("state", "")}

    def issue(self, person):
        access, spare = (f"{kind}-{next(self.numbers)}-token" for kind in ("access", "refresh"))
        self.access[access] = self.spare[spare] = person
        return {"access_token": access, "refresh_token": spare, "token_type": "Bearer"}

    async def answer(self, request):
        self.urls.append(str(request.url))
        if self.trouble and (answer := await self.trouble(request)):
            return answer
        if request.url.path == "/token":
            sent = dict(parse_qsl(request.content.decode())) | dict(request.url.params)
            tokens = self.refresh(sent) if "refresh_token" in sent else self.exchange(sent)
            return httpx2.Response(200 if tokens else 400, json=tokens or {"error": "no"})
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if person := self.access.get(token):
            return httpx2.Response(200, json=person | {"parcels": [f"to {person['email']}"]})
        return httpx2.Response(401, json={"error": "invalid_token"})

    def exchange(self, sent):
        begun_with, person = self.codes.pop(sent.get("code"), ({}, None))
        return self.issue(person) if person and self.proven(begun_with, sent) else None

    def proven(self, begun_with, sent):
        return True

    def refresh(self, sent):
        self.refreshes += 1
        person = self.spare.pop(sent["refresh_token"], None)
        if person is None:
            self.access.clear()
            self.spare.clear()
        return person and self.issue(person)


class ExactCarrier(Carrier):
    """Compares a code's verifier with its challenge, where the login had one (RFC 7636)."""

    def proven(self, begun_with, sent):
        verifier = sent.get("code_verifier", "")
        hashed = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        right = {"code_challenge": hashed, "code_challenge_method": "S256"}
        given = {key: begun_with[key] for key in right if key in begun_with}
        fit = 43 <= len(verifier) <= 128 and verifier not in begun_with.values()
        return not given or (given == right and fit)


def asked(begun):
    """What the reply to /login asks of the carrier."""
    return dict(parse_qsl(urlsplit(begun.headers.get("location", "")).query))


def told(reply):
    words = {303: "let in"} | dict.fromkeys(range(400, 500), "refused")
    return words.get(reply.status_code, f"told {reply.status_code}")


async def log_in(client, carrier, person):
    """The reply at the end of a login; as in a browser that knows nothing of the shop."""
    client.cookies.clear()
    begun = await client.get("/login")
    return await client.get("/login/callback", params=carrier.consent(begun, person))


@pytest.fixture
def carrier():
    return Carrier()


@pytest.fixture
def visit(start, carrier):
    """``client = await visit()``: a browser at the shop, by default at the usual carrier's."""

    async def visit(**seams):
        seams = {"provider": carrier, "client_secret": SECRET, "keys": [KEY]} | seams
        client = await start(**seams)
        client.base_url = HOME
        return client

    return visit


async def test_send_state_once(visit, carrier):
    """A login ends once, in time, in the browser that began it, and on a page of the shop."""
    now = [1_000_000.0]
    client = await visit(clock=lambda: now[0])

    async def begin(page):
        client.cookies.clear()
        begun = await client.get("/login", params={"next": page})
        if "samesite=strict" in begun.headers.get("set-cookie", "").lower():
            client.cookies.clear()  # a browser keeps it back when it comes from another site
        return begun, httpx2.Cookies(client.cookies)

    async def end(begun, cookies=None, **query):
        if told(begun) == "refused":
            return begun
        client.cookies = cookies
        query = carrier.consent(begun, ANN) | query
        return await client.get("/login/callback", params=query)

    begun, cookies = await begin("/orders")
    again, again_cookies = await begin("/")
    late, late_cookies = await begin("/")
    ends = {
        "state é": await end(begun, cookies, state="é"),
        "without a cookie": await end(begun),
        "another login's cookie": await end(begun, again_cookies),
        "as begun": await end(begun, cookies),
        "with a wrong code": await end(again, again_cookies, code="wrong"),
        "then with the right one": await end(again, again_cookies),
    }
    now[0] += 601
    ends["too late"] = await end(late, late_cookies)

    assert {how: told(reply) for how, reply in ends.items()} == {
        "state é": "refused",
        "without a cookie": "refused",
        "another login's cookie": "refused",
        "as begun": "let in",
        "with a wrong code": "refused",
        "then with the right one": "refused",
        "too late": "refused",
    }, "how a login ended"

    away = await end(*await begin("///evil.example"))

    went = [
        reply.headers.get("location", "").removeprefix(HOME) for reply in (ends["as begun"], away)
    ]
    assert [re.match(r"//|\w+:|/orders|", page)[0] for page in went] == ["/orders", ""], (
        "where the browser went with the `next` /orders and ///evil.example"
    )


async def test_prove_with_pkce(visit):
    """A code is worth something only to the login that asked for it."""
    carrier = ExactCarrier()
    client = await visit(provider=carrier)

    begun = await client.get("/login")
    own = await client.get("/login/callback", params=carrier.consent(begun, ANN))
    stolen = carrier.consent(begun, ANN)["code"]
    client.cookies.clear()
    begun = await client.get("/login")
    query = carrier.consent(begun, EVE) | {"code": stolen}
    other = await client.get("/login/callback", params=query)

    assert {"own code": told(own), "another's code": told(other)} == {
        "own code": "let in",
        "another's code": "refused",
    }, "whose code opened the shop; with a verifier that a URL has shown no code does"


async def test_exchange_on_the_server(visit, carrier, caplog):
    """Tokens and the secret pass between shop and carrier only, and not in a URL."""
    client = await visit()

    with caplog.at_level("INFO"):
        finished = await log_in(client, carrier, ANN)

    shown = f"{finished.headers} {finished.text}"
    secret = [SECRET, *carrier.access, *carrier.spare]
    assert {
        "reply": told(finished),
        "shown to the browser": [each for each in secret if each in shown],
        "in the shop's log": [each for each in secret if each in caplog.text],
        "in the carrier's log": [url for url in carrier.urls if "?" in url],
    } == {
        "reply": "let in",
        "shown to the browser": [],
        "in the shop's log": [],
        "in the carrier's log": [],
    }, "tokens and the secret, shown or logged; the carrier's log has the query strings it was sent"

    begun = await client.get("/login", headers={"Host": "evil.example"})

    assert asked(begun).get("redirect_uri") in (f"{HOME}/login/callback", None), (
        "where the carrier was told to send the code, for a login with a Host of evil.example"
    )


@pytest.mark.on_postgresql_too("a race for one primary key")
async def test_link_by_the_providers_subject(app, visit, carrier, db):
    """A person at the carrier is always the same customer, and nobody else, whatever the e-mail."""
    client = await visit()
    await db.add(ida := app.Customer(email="ida@post.example"), twin := app.Customer(email="eve"))
    none = {"access_token": "none", "refresh_token": "none"}
    elsewhere = {"issuer": "https://other.example", "subject": ANN["sub"], **none}
    await db.add(app.Identity(**elsewhere, customer_id=ida.id))
    names = {ida.id: "Ida, of another provider"}
    first = text(
        "INSERT INTO identities (issuer, subject, customer_id, access_token, refresh_token, "
        f"refreshes) VALUES ('{app.PROVIDER}', '{EVE['sub']}', {twin.id}, 'none', 'none', 0) "
        "ON CONFLICT DO NOTHING"
    )

    async def visits():
        return Counter(visit.customer_id for visit in await db.rows(app.Visit))

    async def customer(person, name, meanwhile=None):
        known = await visits()
        carrier.access.clear()
        carrier.spare.clear()
        async with meanwhile or nullcontext():
            reply = await log_in(client, carrier, person)
        key = {"issuer": app.PROVIDER, "subject": person["sub"]}
        mine = await db.scalar(select(app.Identity.customer_id).filter_by(**key))
        names.setdefault(mine, name)
        come = await visits() - known
        return names.get(*come, "somebody else") if come else told(reply)

    twice = db.rival(first, after_read=True)
    logged_in = {
        "Ann": await customer(ANN, "Ann"),
        "Eve, in two browsers at once": await customer(EVE | {"email": ida.email}, "Eve", twice),
        "Ann with another e-mail": await customer(ANN | {"email": "ann@new.example"}, "new"),
        "and her parcels": (await client.get("/parcels")).status_code,
    }

    assert logged_in == {
        "Ann": "Ann",
        "Eve, in two browsers at once": "Eve",
        "Ann with another e-mail": "Ann",
        "and her parcels": 200,
    }, (
        "Eve has the number after Ann's, and Ida's e-mail; Ida has Ann's number at another "
        "provider; each login ends the older tokens"
    )


async def test_time_out_and_translate_provider_errors(visit, carrier, monkeypatch):
    """Where the carrier is late (ten seconds a call) or broken the customer is told 504 or 502."""
    loop, skipped = asyncio.get_running_loop(), [0]
    monkeypatch.setattr(loop, "time", lambda real=loop.time: real() + skipped[0])
    client = await visit()
    await log_in(client, carrier, ANN)

    async def pass_time(seconds):
        skipped[0] += seconds
        for _ in range(3):
            await asyncio.sleep(0)

    async def drip(*parts):
        for part in parts:
            await pass_time(4)
            yield part.encode()

    async def slow(request):
        return httpx2.Response(200, content=drip('{"parcels":', "[]}"))

    async def silent(request):
        patience = request.extensions["timeout"]["read"]
        await pass_time(patience or 3600)
        if patience:
            raise httpx2.ReadTimeout("no answer", request=request)

    async def dripping(request):
        return httpx2.Response(200, content=drip("{", '"parcels"', ":", "[", "]", "}"))

    async def unreachable(request):
        raise httpx2.ConnectError("refused", request=request)

    async def busy(request):
        return httpx2.Response(429, text="once more, later")

    async def closed(request):
        return httpx2.Response(200, html="<h1>We are back soon</h1>")

    statuses = {}
    for trouble in (slow, silent, dripping, unreachable, busy, closed):
        carrier.trouble = trouble
        statuses[trouble.__name__] = (await client.get("/parcels")).status_code
    statuses["closed at a login"] = (await log_in(client, carrier, ANN)).status_code

    assert statuses == {
        "slow": 200,
        "silent": 504,
        "dripping": 504,
        "unreachable": 502,
        "busy": 502,
        "closed": 502,
        "closed at a login": 502,
    }, "told while the carrier was so: slow takes 8 s, dripping 24 s; busy is a 429, closed is HTML"


@pytest.mark.on_postgresql_too("a race for one row, where rows are locked")
async def test_refresh_the_providers_token_once(visit, carrier, db):
    """Two processes whose token is too old refresh it once, and keep the new refresh token."""
    one, other = await visit(), await visit()
    await log_in(one, carrier, ANN)
    other.cookies = one.cookies
    carrier.access.clear()
    alone = await one.get("/parcels")
    refused, ready = asyncio.Event(), asyncio.Event()
    doors = {"/parcels": refused, "/token": ready, "rows": ready}
    there = {place: set() for place in doors}

    def arrive(place, who):
        there[place].add(who)
        if len(there[place]) == 2:
            doors[place].set()

    async def together(request):
        """Refuses both at once; the first refresh waits until the other is as far as it gets."""
        arrive(request.url.path, request)
        await doors[request.url.path].wait()

    def statement(locks, connection, _cursor, sql, *_):
        if refused.is_set() and locks == bool(re.search("^(?!SELECT)|lock|FOR UPDATE", sql)):
            arrive("rows", connection.connection.dbapi_connection)

    def open_all(_done):
        refused.set()
        ready.set()

    event.listen(db.engine.sync_engine, "before_cursor_execute", partial(statement, True))
    event.listen(db.engine.sync_engine, "after_cursor_execute", partial(statement, False))
    carrier.access.clear()
    carrier.trouble = together
    requests = [asyncio.ensure_future(process.get("/parcels")) for process in (one, other)]
    for request in requests:
        request.add_done_callback(open_all)
    replies = await asyncio.gather(*requests)

    assert {
        "alone": alone.status_code,
        "then two at once": [reply.status_code for reply in replies],
        "refreshes": carrier.refreshes,
    } == {"alone": 200, "then two at once": [200, 200], "refreshes": 2}, (
        "the access token was too old; both processes were told so before either refreshed it"
    )


async def test_encrypt_stored_tokens(app, visit, carrier, db):
    """Who has the database has no token; who has the old key and the new one has both."""
    old = await visit()
    await log_in(old, carrier, ANN)
    tokens, stored = [*carrier.access, *carrier.spare], []

    async def parcels(client):
        client.cookies = old.cookies
        told = (await client.get("/parcels")).status_code
        stored.append(str(await db.rows(text(f"SELECT * FROM {app.Identity.__tablename__}"))))
        return told

    both, new = await visit(keys=[NEW_KEY, KEY]), await visit(keys=[NEW_KEY])
    read = {"with the old key": await parcels(old)}
    carrier.access.clear()
    read["with both, and refreshed"] = await parcels(both)
    read["then with the new key"] = await parcels(new)
    read["then with the old key"] = await parcels(old)

    tokens += [*carrier.access, *carrier.spare]
    read["in the table"] = [token for token in tokens if token in str(stored)]
    assert read == {
        "with the old key": 200,
        "with both, and refreshed": 200,
        "then with the new key": 200,
        "then with the old key": 409,
        "in the table": [],
    }, "what parcels answers after a change of keys, and which tokens the table of identities shows"
