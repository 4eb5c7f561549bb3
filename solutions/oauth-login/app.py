"""Log in to the shop with the carrier's account.

Customers of the shop have an account at Parcelbird, the carrier. They log in with it, and the shop
then shows where their parcels are. It works when one customer tries it on a good day. Then one is
logged in as another, a link in a mail logs people in as the sender, a token turns up in a
log, and when the carrier is slow the shop is too.

There already: tables, routes, cookies, and an HTTP client for the carrier. What the shop promises:
GET /login?next=/orders   sends the browser to the carrier; `next` is a page of the shop
GET /login/callback       303 to that page, with a Visit and its cookie; else 400: begin again. One
                          try is good once, for ten minutes, in the browser that began it
GET /parcels              what the carrier knows; 409 when the customer has to log in again
Where the carrier is at fault both answer 502, or 504 when one call takes it over ten seconds. It
has its clients prove that a code is theirs (RFC 7636, S256). It answers 401 to an old access token.
A refresh token is good once; one that comes twice ends the customer's access.

Several processes serve one database. Seams of create_app: `provider` (the transport to the
carrier), `client_secret`, `keys` (Fernet keys for what is stored, the newest first: older ones are
for reading) and `clock` (seconds).
"""

import asyncio
import hashlib
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

import httpx2
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from fastapi import Cookie, Depends, FastAPI, HTTPException, Query
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ValidationError
from sqlalchemy import ForeignKey, delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

PROVIDER = "https://parcelbird.example"
CLIENT_ID = "shop"
CALLBACK = "https://shop.example/login/callback"
PAGE = r"^/([\w?][\w/?&=.%-]*)?$"
PATIENCE, DEADLINE = 600, 10
LOGIN, VISIT = "__Host-login", "__Host-visit"


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]


class Identity(Base):
    __tablename__ = "identities"
    issuer: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    access_token: Mapped[str] = mapped_column(default="")
    refresh_token: Mapped[str] = mapped_column(default="")
    refreshes: Mapped[int] = mapped_column(default=0)
    customer: Mapped[Customer] = relationship()


class Visit(Base):
    __tablename__ = "visits"
    digest: Mapped[str] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))


class Attempt(Base):
    __tablename__ = "attempts"
    state: Mapped[str] = mapped_column(primary_key=True)
    verifier: Mapped[str]
    page: Mapped[str]
    begun: Mapped[float]


class Tokens(BaseModel):
    access_token: str
    refresh_token: str


class Person(BaseModel):
    sub: str
    email: str


class Parcels(BaseModel):
    parcels: list[str]


class RefusedError(Exception):
    """The carrier does not take this code or token."""


Answer = TypeVar("Answer", bound=BaseModel)


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


LoginCookie = Annotated[str, Cookie(alias=LOGIN)]
PageQuery = Annotated[str, Query(alias="next", pattern=PAGE)]


def create_app(
    engine: AsyncEngine,
    *,
    client_secret: str,
    keys: Sequence[str],
    provider: httpx2.AsyncBaseTransport | None = None,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """The shop's login; see above."""
    http = httpx2.AsyncClient(base_url=PROVIDER, transport=provider, timeout=DEADLINE)
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with http:
            yield

    app = FastAPI(lifespan=lifespan)

    vault = MultiFernet([Fernet(key) for key in keys])

    def seal(token: str) -> str:
        return vault.encrypt(token.encode()).decode()

    def unseal(stored: str) -> str:
        try:
            return vault.decrypt(stored).decode()
        except InvalidToken:
            raise RefusedError from None

    async def ask(kind: type[Answer], method: str, path: str, **sent: Any) -> Answer:
        """What the carrier answers; RefusedError, HTTPException 502 or 504 where it does not."""
        try:
            async with asyncio.timeout(DEADLINE):
                answer = await http.request(method, path, **sent)
            if answer.status_code in (400, 401):
                raise RefusedError
            return kind.model_validate_json(answer.raise_for_status().content)
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise HTTPException(504, "The carrier takes too long") from error
        except (httpx2.HTTPError, ValidationError) as error:
            raise HTTPException(502, "The carrier is out of order") from error

    async def get_tokens(**form: str) -> Tokens:
        form |= {"client_id": CLIENT_ID, "client_secret": client_secret}
        return await ask(Tokens, "POST", "/token", data=form)

    async def get(kind: type[Answer], path: str, token: str) -> Answer:
        return await ask(kind, "GET", path, headers={"Authorization": f"Bearer {token}"})

    async def take_attempt(state: str, cookie: str) -> tuple[str, str]:
        """The verifier and the page of a login that may go on; else HTTPException 400."""
        fresh = Attempt.state == state, Attempt.begun > clock() - PATIENCE
        if not secrets.compare_digest(state.encode(), cookie.encode()):
            raise HTTPException(400, "This login was begun elsewhere")
        wanted = delete(Attempt).where(*fresh).returning(Attempt.verifier, Attempt.page)
        async with sessions.begin() as session:
            attempt = (await session.execute(wanted)).one_or_none()
        if attempt is None:
            raise HTTPException(400, "This login is over")
        return attempt.verifier, attempt.page

    async def link(session: AsyncSession, person: Person, tokens: Tokens) -> int:
        """The customer whom the carrier knows as this person, a new one where there is none."""
        identity = await session.get(Identity, (PROVIDER, person.sub))
        if identity is None:
            identity = Identity(issuer=PROVIDER, subject=person.sub)
            identity.customer = Customer(email=person.email)
            try:
                async with session.begin_nested():
                    session.add(identity)
            except IntegrityError:
                identity = await session.get_one(Identity, (PROVIDER, person.sub))
        identity.access_token = seal(tokens.access_token)
        identity.refresh_token = seal(tokens.refresh_token)
        return identity.customer_id

    async def known_here(visit: Annotated[str, Cookie(alias=VISIT)] = "") -> Identity:
        mine = select(Identity).join(Visit, Visit.customer_id == Identity.customer_id)
        here = Visit.digest == digest(visit), Identity.issuer == PROVIDER
        async with sessions() as session:
            identity = await session.scalar(mine.where(*here))
        if identity is None:
            raise HTTPException(401, "Log in first")
        return identity

    async def refresh(customer_id: int, refused: str) -> str:
        """An access token newer than the `refused` one."""
        mine = update(Identity).filter_by(issuer=PROVIDER, customer_id=customer_id)
        lock = mine.values(refreshes=Identity.refreshes + 1).returning(Identity)
        async with sessions.begin() as session:
            identity = (await session.scalars(lock)).one()
            token = unseal(identity.access_token)
            if token == refused:
                old = unseal(identity.refresh_token)
                new = await get_tokens(grant_type="refresh_token", refresh_token=old)
                token, identity.access_token = new.access_token, seal(new.access_token)
                identity.refresh_token = seal(new.refresh_token)
            return token

    @app.get("/login")
    async def log_in(page: PageQuery = "/") -> RedirectResponse:
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        async with sessions.begin() as session:
            session.add(Attempt(state=state, verifier=verifier, page=page, begun=clock()))
        asked = {"response_type": "code", "client_id": CLIENT_ID, "redirect_uri": CALLBACK}
        asked |= {"scope": "profile parcels", "state": state}
        sha256 = hashlib.sha256(verifier.encode()).digest()
        asked["code_challenge"] = urlsafe_b64encode(sha256).rstrip(b"=").decode()
        asked["code_challenge_method"] = "S256"
        reply = RedirectResponse(f"{PROVIDER}/authorize?{urlencode(asked)}", 303)
        reply.set_cookie(LOGIN, state, PATIENCE, secure=True, httponly=True, samesite="lax")
        return reply

    @app.get("/login/callback")
    async def finish(cookie: LoginCookie = "", state: str = "", code: str = "") -> RedirectResponse:
        verifier, page = await take_attempt(state, cookie)
        grant = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
        try:
            tokens = await get_tokens(redirect_uri=CALLBACK, **grant)
            person = await get(Person, "/userinfo", tokens.access_token)
        except RefusedError:
            raise HTTPException(400, "The carrier did not let you in") from None
        visit = secrets.token_urlsafe(32)
        async with sessions.begin() as session:
            customer_id = await link(session, person, tokens)
            session.add(Visit(digest=digest(visit), customer_id=customer_id))
        reply = RedirectResponse(page, 303)
        reply.set_cookie(VISIT, visit, secure=True, httponly=True, samesite="lax")
        reply.delete_cookie(LOGIN, secure=True, httponly=True, samesite="lax")
        return reply

    @app.get("/parcels")
    async def parcels(mine: Annotated[Identity, Depends(known_here)]) -> Parcels:
        try:
            token = unseal(mine.access_token)
            try:
                return await get(Parcels, "/parcels", token)
            except RefusedError:
                return await get(Parcels, "/parcels", await refresh(mine.customer_id, token))
        except RefusedError:
            raise HTTPException(409, "Log in again to see your parcels") from None

    return app
