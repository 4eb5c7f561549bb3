import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from ipaddress import ip_address
from pathlib import Path

import httpx2

SHOP, DESK = "https://shop.example", "https://desk.shop.example"
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
SUPPLIER = "93.184.215.14"
METADATA = "https://169.254.169.254/"


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder for pictures, in one that is empty otherwise."""
    with tempfile.TemporaryDirectory(dir=".") as place:
        pictures = Path(place, "pictures").resolve()
        pictures.mkdir()
        yield pictures


class Network(httpx2.AsyncBaseTransport):
    """Names and hosts outside of the shop; `reached` lists what each request was sent to."""

    def __init__(self, **names: list[list[str]]) -> None:
        self.names = {f"{name}.example": answers for name, answers in names.items()}
        self.reached: list[dict[str, str | None]] = []

    async def resolve(self, host: str) -> list[str]:
        """The addresses of a name; each answer but the last is given once."""
        answers = self.names.get(host)
        if answers is None:
            return [str(ip_address(host))]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Connects to the host of the URL."""
        address, *_ = await self.resolve(request.url.host)
        name = request.headers["host"]
        sni = request.extensions.get("sni_hostname", request.url.host)
        path = request.url.raw_path.decode()
        self.reached.append({"address": address, "path": path, "Host": name, "SNI": sni})
        if name == "moved.example":
            return httpx2.Response(302, headers={"Location": METADATA})
        return httpx2.Response(200, content=PNG)


class Page(HTMLParser):
    """A page as a browser reads it: the `title` and the text of its <title>, and of each <li>."""

    def __init__(self, reply: httpx2.Response) -> None:
        super().__init__()
        self.shown: list[tuple[str, str]] = []
        self.inside = ""
        self.feed(reply.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"title", "li"}:
            self.inside = tag
            self.shown.append((dict(attrs).get("title") or "", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == self.inside:
            self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside:
            title, text = self.shown[-1]
            self.shown[-1] = title, text + data


def lets_run(policy: str) -> set[str]:
    """What in a Content-Security-Policy lets a script run that somebody has injected."""
    rules = dict(part.strip().partition(" ")[::2] for part in policy.split(";"))
    scripts = rules.get("script-src", rules.get("default-src", "no-policy-for-scripts"))
    found = set()
    for kind in ("script-src-elem", "script-src-attr"):
        words = {*rules.get(kind, scripts).split()}
        if not any(word.startswith(("'nonce-", "'sha")) for word in words):
            found |= words & {"no-policy-for-scripts", "'unsafe-inline'", "*", "https:", "data:"}
    return found


async def test_list_cors_origins(start):
    """The shop's two pages may read every reply, also a refusal; no other page may read any."""
    days = [True]
    client = await start(is_open=lambda: days[-1])

    async def reader(origin: str, path: str = "/") -> str | None:
        reply = await client.get(path, headers={"Origin": origin})
        return reply.headers.get("access-control-allow-origin")

    foreign = ["https://shop.example.net", "https://desk-shop.example", "https://shop.ex"]
    foreign += ["https://blog.shop.example", "http://shop.example", "null"]
    told = {SHOP: await reader(SHOP, "/products")}
    told |= {origin: await reader(origin) for origin in [DESK, *foreign]}

    assert told == {SHOP: SHOP, DESK: DESK} | dict.fromkeys(foreign), (
        "the Access-Control-Allow-Origin that each page is told"
    )
    days.append(False)
    closed = await client.get("/products", headers={"Origin": SHOP})

    allowed = {
        name: closed.headers.get(f"access-control-allow-{name}")
        for name in ("origin", "credentials")
    }
    assert {closed.status_code: allowed} == {503: {"origin": SHOP, "credentials": "true"}}, (
        "what the reply to the shop's page, sent with the cookie, allows it to read"
    )


async def test_allow_list_sort_columns(app, client, db):
    """Products are sorted by name or price; whatever else somebody sends is a 422."""
    await db.add(
        app.Product(sku="jam", name="Plum jam", price=5, cost=3),
        app.Product(sku="tea", name="Green tea", price=9, cost=1),
    )

    async def sort(by: str) -> object:
        reply = await client.get("/products", params={"sort": by})
        found = reply.json() if reply.status_code == 200 else reply.status_code
        return [each["sku"] for each in found] if isinstance(found, list) else found

    guess = "name, (SELECT max(cost) FROM products)"
    told = {by: await sort(by) for by in ("name", "price", "cost", "sku", guess)}

    assert told == {
        "name": ["tea", "jam"],
        "price": ["jam", "tea"],
        "cost": 422,
        "sku": 422,
        guess: 422,
    }, "the order of two products, or the refusal"


async def test_limit_request_bodies(app, start, db):
    """No more than 64 KB of a request are read, whatever it says of its length."""
    read = []

    async def parts():
        for number in range(200):
            read.append(number)
            yield b"x" * 1_000

    with folder() as pictures:
        client = await start(pictures=pictures)
        review = {"author": "Ann", "text": "x" * 50_000}
        usual, picture, long = (
            await client.post("/products/tea/reviews", json=review),
            await client.post("/pictures", files={"file": PNG + b"x" * 80_000}),
            await client.post("/pictures/from-url", content=parts()),
        )

    told = {"50 KB": usual.status_code, "80 KB, a picture": picture.status_code}
    told |= {"200 KB in parts": long.status_code, "KB of them that were read": max(len(read), 70)}
    assert told == {
        "50 KB": 201,
        "80 KB, a picture": 201,
        "200 KB in parts": 413,
        "KB of them that were read": 70,
    }, "four sizes; 70 KB read stands for 70 or less"


async def test_check_the_origin_of_cookie_requests(app, client, db):
    """A customer orders from the shop's own pages; another page orders nothing with the cookie."""
    await db.add(app.Customer(session="session-of-ann"))

    async def order(origin: str, site: str) -> int:
        headers = {"Cookie": "session=session-of-ann", "Origin": origin, "Sec-Fetch-Site": site}
        return (await client.post("/orders/tea", headers=headers)).status_code

    told = {
        SHOP: await order(SHOP, "same-site"),
        DESK: await order(DESK, "same-site"),
        "https://shop.example.net": await order("https://shop.example.net", "cross-site"),
        "https://blog.shop.example": await order("https://blog.shop.example", "same-site"),
        "http://shop.example": await order("http://shop.example", "cross-site"),
        "a sandboxed frame": await order("null", "cross-site"),
    }

    assert told | {"orders": await db.count(app.Order)} == {
        SHOP: 201,
        DESK: 201,
        "https://shop.example.net": 403,
        "https://blog.shop.example": 403,
        "http://shop.example": 403,
        "a sandboxed frame": 403,
        "orders": 2,
    }, "orders that pages have placed"


async def test_resolve_before_you_fetch(start):
    """The shop connects to the address that it has checked, under its name, and to none inside."""
    network = Network(
        supplier=[[SUPPLIER]],
        moved=[[SUPPLIER]],
        rebinds=[[SUPPLIER], ["127.0.0.1"]],
        inside=[["10.0.0.7"]],
        mixed=[["10.0.0.8", SUPPLIER]],
        shared=[["100.64.0.1"]],
        nat64=[["64:ff9b::a9fe:a9fe"]],
        sixtofour=[["2002:7f00:1::"]],
    )
    with folder() as pictures:
        client = await start(pictures=pictures, resolve=network.resolve, transport=network)

        async def fetch(name: str) -> tuple[int, list[dict[str, str | None]]]:
            network.reached.clear()
            url = f"https://{name}.example/tea.png?size=2"
            reply = await client.post("/pictures/from-url", json={"url": url})
            return reply.status_code, [*network.reached]

        told, reached = await fetch("supplier")
        names = ("moved", "rebinds", "inside", "mixed", "shared", "nat64", "sixtofour")
        others = {name: await fetch(name) for name in names}
        inside = {
            name: addresses
            for name, (_, connected) in others.items()
            if (addresses := [to["address"] for to in connected if to["address"] != SUPPLIER])
        }

    host = "supplier.example"
    assert {told: reached} == {
        201: [{"address": SUPPLIER, "path": "/tea.png?size=2", "Host": host, "SNI": host}]
    }, "how the supplier was reached"
    assert inside == {}, "addresses inside that were reached, by the name in the URL"


async def test_contain_uploads(start):
    """Pictures are kept, inside the folder, whatever they are named; nothing else is kept."""
    with folder() as pictures:
        client = await start(pictures=pictures)

        async def upload(name: str, data: bytes) -> str:
            sent = await client.post("/pictures", files={"file": (name, data, "text/html")})
            return str(sent.json()["url"]) if sent.status_code == 201 else "/"

        red = await upload("../cat.html", PNG + b"red")
        blue = await upload(f"{pictures.parent}/cat.html", JPEG + b"blue")
        await upload("cat.png", b"<svg onload='alert(1)'/>")
        shown = [await client.get(url) for url in (red, blue)]
        outside = [path.name for path in pictures.parent.iterdir() if path != pictures]
        inside = sum(path.is_file() for path in pictures.rglob("*"))

    assert {
        "kept": [reply.content.removeprefix(PNG).removeprefix(JPEG) for reply in shown],
        "served as": [reply.headers["content-type"] for reply in shown],
        "files in the folder": inside,
        "outside of the folder": outside,
    } == {
        "kept": [b"red", b"blue"],
        "served as": ["image/png", "image/jpeg"],
        "files in the folder": 2,
        "outside of the folder": [],
    }, "a PNG, a JPEG and an SVG, each sent as text/html"


async def test_encode_on_output(app, client, db):
    """A review is stored as it was written, and a browser shows just that, and runs nothing."""
    await db.add(app.Product(sku="tea", name="Tea </title><b>", price=9, cost=1))
    author, text = 'Ann "Q" <b> onclick=', "I <3 tea &lt;3 jam <script>alert(1)</script>"
    await client.post("/products/tea/reviews", json={"author": author, "text": text})
    reply = await client.get("/products/tea")

    stored = [(review.author, review.text) for review in await db.rows(app.Review)]
    assert {"stored": stored, "shown": Page(reply).shown} == {
        "stored": [(author, text)],
        "shown": [("", "Tea </title><b>"), (author, text)],
    }, "a review, and the title of the page that shows it"
    assert lets_run(reply.headers.get("content-security-policy", "")) == set(), (
        "what in the page's Content-Security-Policy lets an injected script run"
    )
