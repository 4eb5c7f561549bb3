"""The shop's front door: how often somebody may knock.

Robots of other shops ask what a parcel costs, a hundred times a second, and lately somebody tries
passwords. The app runs in several workers behind the shop's own proxies, which append the address
that they see to X-Forwarded-For. All workers have the same Redis.

There already: the customers, `problem` for every error reply, ProxyHeadersMiddleware, and the
routes:

    GET /shipping?grams=500   `reads` times for each customer (Authorization: Bearer KEY) and for
                              each stranger; a key that is nobody's is a stranger's. 200 or 429
    POST /login               {"email": …, "password": …}; 200, 401 or 429. For one account, be it
                              there or not, `guesses` wrong passwords; from one address `logins`
                              tries in all

A 429 looks like every other error, and tells in seconds when the next request may come, as HTTP
has it. While the store of the counters is down or silent, /shipping answers, nobody can log in
(503), and each request that was not counted is an ERROR in the log.

Seams of create_app: `redis`, a client of that Redis. `proxies`, their addresses.
`verify(password, digest)` checks a password. `patience`, the seconds that a request waits for the
store. `reads`, `guesses` and `logins`, rates such as "60/minute".
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil
from time import time
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from limits import RateLimitItem, parse
from limits.aio import storage, strategies
from limits.errors import StorageError
from pwdlib import PasswordHash
from pydantic import BaseModel, Field
from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.exceptions import HTTPException as StarletteHTTPException
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

logger = logging.getLogger(__name__)

UNKNOWN = (
    "$argon2id$v=19$m=65536,t=3,p=4$xLIUJdBGYs0Jp/xffW/9JA$"
    "bwiONCLZ6IL9ot+hp9FhnurFD0rElarxPrvNHdi1/DM"
)
Verify = Callable[[str, str], Awaitable[bool]]
BearerDep = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


class Base(DeclarativeBase):
    pass


class Customer(Base):
    """`email` is in lower case; `key_digest` is `digest_of` the customer's key."""

    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    password_digest: Mapped[str]
    key_digest: Mapped[str | None] = mapped_column(unique=True)


class Quote(BaseModel):
    cents: int


class Login(BaseModel):
    email: str = Field(max_length=254)
    password: str = Field(max_length=256)


class CustomerOut(BaseModel):
    id: int


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer to an error."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    media_type = "application/problem+json"
    return JSONResponse(body | {"detail": detail}, status, headers, media_type)


def digest_of(key: str) -> str:
    return sha256(key.encode()).hexdigest()


async def verify_argon2(password: str, digest: str) -> bool:
    return await asyncio.to_thread(PasswordHash.recommended().verify, password, digest)


async def known_customer(request: Request, bearer: BearerDep) -> int | None:
    """The id of the customer whose key came along; None if it is nobody's."""
    if bearer is None:
        return None
    known = Customer.key_digest == digest_of(bearer.credentials)
    async with request.app.state.sessions() as session:
        customer: int | None = await session.scalar(select(Customer.id).where(known))
    return customer


CustomerDep = Annotated[int | None, Depends(known_customer)]


class Limiter:
    """Counts attempts in `redis`; waits `patience` seconds for it."""

    def __init__(self, redis: Redis, patience: float) -> None:
        # TODO share-the-counter: which requests does one worker of four count here?
        store = storage.MemoryStorage()
        self.redis, self.patience = redis, patience
        # TODO count-in-a-moving-window: how many may pass around the end of a window?
        self.window = strategies.FixedWindowRateLimiter(store)

    async def count(self, rate: RateLimitItem, *who: str) -> float | None:
        """Counts one attempt: None if it may pass, else the time at which the next one may."""
        if await self.window.hit(rate, *who):
            return None
        return (await self.window.get_window_stats(rate, *who)).reset_time

    async def take(self, rate: RateLimitItem, *who: str, needed: bool) -> None:
        """Counts one attempt and refuses it above the rate; `needed` if it cannot go uncounted."""
        # TODO choose-how-to-fail: what if the store is down, or never answers?
        full_until = await self.count(rate, *who)
        if full_until is not None:
            # TODO say-when-to-retry: when does a refused client come back?
            raise HTTPException(429, "Too many requests")

    async def forgive(self, rate: RateLimitItem, *who: str) -> None:
        """Forgets the attempts counted so far."""
        try:
            async with asyncio.timeout(self.patience):
                await self.window.clear(rate, *who)
        except (StorageError, TimeoutError):
            logger.exception("no fresh start for this %s", who[0])


def network_of(host: str) -> str:
    """The part of an address that stands for one visitor; what is no address stays whole."""
    # TODO group-addresses-by-network: how many addresses has one visitor?
    return host


def address_of(request: Request) -> str:
    # TODO key-by-who-not-by-header: who writes the first part, and who shares an address?
    forwarded = request.headers.get("X-Forwarded-For", "").split(",")[0]
    host = forwarded or (request.client.host if request.client else "local")
    return network_of(host)


def create_app(
    engine: AsyncEngine,
    *,
    redis: Redis,
    proxies: str = "127.0.0.1",
    verify: Verify = verify_argon2,
    patience: float = 0.2,
    reads: str = "60/minute",
    guesses: str = "5/15 minutes",
    logins: str = "50/15 minutes",
) -> FastAPI:
    app = FastAPI()
    app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=proxies)
    sessions = app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    limiter = Limiter(redis, patience)
    read_rate, guess_rate, login_rate = parse(reads), parse(guesses), parse(logins)

    @app.exception_handler(StarletteHTTPException)
    async def answer_http_error(request: Request, exc: StarletteHTTPException) -> JSONResponse:
        return problem(exc.status_code, exc.detail, exc.headers)

    async def limit_reads(request: Request, customer: CustomerDep) -> None:
        who = address_of(request)
        await limiter.take(read_rate, "read", who, needed=False)

    @app.get("/shipping", dependencies=[Depends(limit_reads)])
    async def quote_shipping(grams: Annotated[int, Query(ge=1, le=30_000)]) -> Quote:
        return Quote(cents=390 + grams // 10)

    async def customer_with(email: str, password: str) -> int | None:
        """The id of the customer who logs in with these; None if nobody does."""
        async with sessions() as session:
            found = Customer.email == email.lower()
            customer = await session.scalar(select(Customer).where(found))
        right = await verify(password, customer.password_digest if customer else UNKNOWN)
        return customer.id if customer and right else None

    @app.post("/login")
    async def log_in(form: Login, request: Request) -> CustomerOut:
        account = form.email.lower()
        # TODO count-failures-at-login: how many guesses run before the first is counted?
        customer = await customer_with(form.email, form.password)
        if customer is None:
            await limiter.take(login_rate, "login", address_of(request), needed=True)
            await limiter.take(guess_rate, "guess", account, needed=True)
            raise HTTPException(401, "Wrong e-mail or password", {"WWW-Authenticate": "Bearer"})
        return CustomerOut(id=customer)

    return app
