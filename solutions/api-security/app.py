"""The shop's API, as browsers and strangers meet it.

The web shop at https://shop.example and the desk at https://desk.shop.example call this API from
the browser, with the cookie `session`. Whoever owns another page on the internet tries to as well,
and so does whoever has no browser at all. Products have reviews that customers write, and pictures
that the desk uploads or has fetched from a supplier's URL.

There already: the tables, the routes, `look_up` for names, `read_picture` for a supplier's reply. A
request is at most 64,000 bytes long, one with a picture at most 1 MB; a longer one is a 413.
Products are sorted by name or by price, anything else is a 422: what they cost is nobody's
business. What another site sends with the cookie is a 403. A product's page shows each review as
<li title="AUTHOR">TEXT</li>; the mobile app reads the same rows. Storing a picture answers
{"url": …}; PNG and JPEG are pictures, whatever the name and the type of an upload, and nothing else
is kept.

Seams of create_app: `pictures` is the folder that holds them; `resolve(host)` gives the addresses
of a name; `transport` connects to the host of the URL that it is given, and looks it up once more
where it is a name; `is_open()` is False while the shop counts its stock.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from html import escape
from ipaddress import IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Literal
from uuid import uuid4

import httpx2
from fastapi import Cookie, Depends, FastAPI, HTTPException, Request, Response, UploadFile
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.middleware.base import RequestResponseEndpoint
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

Resolve = Callable[[str], Awaitable[list[str]]]

ORIGINS = ["https://shop.example", "https://desk.shop.example"]
UNICAST = IPv6Network("2000::/3")
STARTS = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}
REQUEST_LIMIT, PICTURE_LIMIT = 64_000, 1_000_000


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    session: Mapped[str] = mapped_column(unique=True)


class Product(Base):
    __tablename__ = "products"
    sku: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[int]
    cost: Mapped[int]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str]
    customer: Mapped[int]


class Review(Base):
    __tablename__ = "reviews"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str]
    author: Mapped[str]
    text: Mapped[str]


class Picture(Base):
    __tablename__ = "pictures"
    name: Mapped[str] = mapped_column(primary_key=True)
    media_type: Mapped[str]


class ReviewIn(BaseModel):
    author: str
    text: str


class PictureUrl(BaseModel):
    url: str


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session
        await session.commit()


SessionDep = Annotated[AsyncSession, Depends(open_session, scope="function")]


async def signed_in(
    request: Request, db: SessionDep, session: Annotated[str, Cookie()] = ""
) -> Customer:
    """The customer whose cookie it is."""
    if request.method not in {"GET", "HEAD"} and request.headers.get("origin") not in ORIGINS:
        raise HTTPException(403, "Another site sent this")
    customer = await db.scalar(select(Customer).where(Customer.session == session))
    if customer is None:
        raise HTTPException(401, "Sign in first")
    return customer


CustomerDep = Annotated[Customer, Depends(signed_in)]


async def look_up(host: str) -> list[str]:
    """The addresses of a host, as the system resolves them."""
    found = await asyncio.get_running_loop().getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def is_public(address: str) -> bool:
    """Whether an address belongs to the internet, and not to the shop's own network."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address) and (ip not in UNICAST or ip.sixtofour):
        return False
    return ip.is_global and not ip.is_multicast


async def fetch(client: httpx2.AsyncClient, url: str, resolve: Resolve) -> httpx2.Response:
    """What a supplier's URL answers, its body not read yet."""
    target = httpx2.URL(url)
    host = target.raw_host.decode()
    addresses = await resolve(host)
    if target.scheme != "https" or not addresses or not all(map(is_public, addresses)):
        raise HTTPException(422, "The shop does not fetch that")
    pinned = client.build_request(
        "GET",
        target.copy_with(host=addresses[0]),
        headers={"Host": target.netloc.decode()},
        extensions={"sni_hostname": host},
    )
    return await client.send(pinned, stream=True)


async def read_picture(reply: httpx2.Response) -> bytes:
    """The body of a reply, no more of it than a picture may have."""
    if reply.status_code != 200:
        raise HTTPException(422, f"The supplier answered {reply.status_code}")
    body = b""
    async for part in reply.aiter_bytes():
        body += part
        if len(body) > PICTURE_LIMIT:
            raise HTTPException(422, "The picture is too large")
    return body


def type_of(data: bytes) -> str:
    """The media type of a picture, by what it begins with."""
    for media_type, start in STARTS.items():
        if data.startswith(start):
            return media_type
    raise HTTPException(415, "Send a PNG or a JPEG")


async def keep(db: AsyncSession, folder: Path, picture: Picture, data: bytes) -> dict[str, str]:
    """Stores a picture under its name; says where it is found."""
    await asyncio.to_thread((folder / picture.name).write_bytes, data)
    db.add(picture)
    return {"url": f"/pictures/{picture.name}"}


def page(name: str, reviews: Sequence[Review]) -> HTMLResponse:
    """The page of a product."""
    shown = [f'<li title="{escape(each.author)}">{escape(each.text)}</li>' for each in reviews]
    return HTMLResponse(
        f"<!doctype html><title>{escape(name)}</title><ul>{''.join(shown)}</ul>",
        headers={"Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'"},
    )


def create_app(
    engine: AsyncEngine,
    *,
    pictures: Path = Path("pictures"),
    resolve: Resolve = look_up,
    transport: httpx2.AsyncBaseTransport | None = None,
    is_open: Callable[[], bool] = lambda: True,
) -> FastAPI:
    app = FastAPI()
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=REQUEST_LIMIT)
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)

    @app.middleware("http")
    async def count_stock(request: Request, call_next: RequestResponseEndpoint) -> Response:
        if is_open():
            return await call_next(request)
        return JSONResponse({"detail": "We count"}, 503, {"Retry-After": "600"})

    app.add_middleware(
        CORSMiddleware,
        allow_origins=ORIGINS,
        allow_credentials=True,
        allow_methods=["GET", "POST"],
    )

    @app.get("/products/{sku}")
    async def show_product(sku: str, db: SessionDep) -> HTMLResponse:
        product = await db.get(Product, sku)
        if product is None:
            raise HTTPException(404, "There is no such product")
        reviews = await db.scalars(select(Review).where(Review.sku == sku).order_by(Review.id))
        return page(product.name, reviews.all())

    @app.get("/products")
    async def list_products(
        db: SessionDep, sort: Literal["name", "price"] = "name"
    ) -> list[dict[str, str]]:
        products = await db.scalars(select(Product).order_by(getattr(Product, sort)))
        return [{"sku": product.sku, "name": product.name} for product in products]

    @app.post("/products/{sku}/reviews", status_code=201)
    async def review_product(sku: str, new: ReviewIn, db: SessionDep) -> None:
        db.add(Review(sku=sku, author=new.author, text=new.text))

    @app.post("/orders/{sku}", status_code=201)
    async def place_order(sku: str, customer: CustomerDep, db: SessionDep) -> None:
        db.add(Order(sku=sku, customer=customer.id))

    @app.post("/pictures", status_code=201, max_body_size=PICTURE_LIMIT)
    async def upload_picture(file: UploadFile, db: SessionDep) -> dict[str, str]:
        data = await file.read()
        name, media_type = uuid4().hex, type_of(data)
        return await keep(db, pictures, Picture(name=name, media_type=media_type), data)

    @app.post("/pictures/from-url", status_code=201)
    async def fetch_picture(wanted: PictureUrl, db: SessionDep) -> dict[str, str]:
        try:
            async with (
                asyncio.timeout(20),
                httpx2.AsyncClient(transport=transport, trust_env=False) as client,
            ):
                data = await read_picture(await fetch(client, wanted.url, resolve))
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError) as exc:
            raise HTTPException(502, "The supplier cannot be reached") from exc
        picture = Picture(name=uuid4().hex, media_type=type_of(data))
        return await keep(db, pictures, picture, data)

    @app.get("/pictures/{name}")
    async def show_picture(name: str, db: SessionDep) -> FileResponse:
        picture = await db.get(Picture, name)
        if picture is None:
            raise HTTPException(404, "There is no such picture")
        headers = {"X-Content-Type-Options": "nosniff"}
        return FileResponse(pictures / name, media_type=picture.media_type, headers=headers)

    return app
