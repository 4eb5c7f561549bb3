"""How the customers of a shop sign in.

A customer leaves an e-mail address and finds a letter with a link in the inbox. The link sets a
password, for a new account or a forgotten one. E-mail and password buy an access token, and the
token opens what is the customer's own. All of it works for honest customers; mend it for others.

There already: the table, the routes, the bounds on input, a 422 that repeats no input.
    POST /customers {"email"}                     202, whether the address is known or not
    POST /password {"password"}, link token       204; 15 to 128 characters, and all count
    POST /token, form of username and password    200 {"access_token", "token_type"}
    GET /me, access token                         200 {"id", "email"}
Tokens are JWTs that the secret signs with HS256, sent as `Authorization: Bearer …`. They claim
`iss`, `sub`, `aud`, `iat` and `exp`; an access token lives 15 minutes, a link token an hour.
Whoever is not known by password or token is answered 401; a blocked customer is known by neither.

Seams of create_app: `secret` comes from the environment and has 32 bytes or more; with a shorter
one create_app raises. `send` posts a letter: it gets the address and the link token. `hasher` is a
`PasswordHash`, by default with pwdlib's recommended parameters; a worker has memory for two hashes
at a time. `clock` tells the time at which a token is issued, aware of its zone.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar, TypeVarTuple

import jwt
from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import OAuth2PasswordBearer, OAuth2PasswordRequestForm
from pwdlib import PasswordHash
from pydantic import BaseModel, Field, SecretStr
from sqlalchemy import false, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ISSUER = "https://shop.example"
ACCESS, LINK = "shop:access", "shop:link"
LIFE = {ACCESS: timedelta(minutes=15), LINK: timedelta(hours=1)}

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Clock = Callable[[], datetime]
Send = Callable[[str, str], Awaitable[None]]


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str | None]
    blocked: Mapped[bool] = mapped_column(default=False, server_default=false())


class NewCustomer(BaseModel):
    email: Annotated[str, Field(max_length=254, pattern=r"^[^@\s\x00]+@[^@\s\x00]+$")]


class NewPassword(BaseModel):
    password: Annotated[SecretStr, Field(min_length=15, max_length=128)]


class Tokens:
    """Signs the shop's tokens and reads them back."""

    def __init__(self, secret: SecretStr, clock: Clock) -> None:
        key = secret.get_secret_value()
        # TODO refuse-weak-secrets: whose secret is easily guessed, and when does the shop find out?
        if not key:
            raise ValueError("the secret for signing tokens is not set")
        self._key = key
        self._clock = clock

    def sign(self, customer: Customer, kind: str) -> str:
        now = self._clock()
        claims = {
            "iss": ISSUER,
            "sub": str(customer.id),
            "aud": kind,
            "iat": now,
            # TODO expire-every-token: when does a stolen token stop working?
        }
        return jwt.encode(claims, self._key, algorithm="HS256")

    def read(self, token: str, kind: str) -> int:
        """Whose token of this kind it is; raises InvalidTokenError or ValueError."""
        claims = jwt.decode(
            token,
            options={"require": ["sub"]},
            key=self._key,
            # TODO pin-the-algorithm: who chooses how the signature is checked?
            algorithms=[jwt.get_unverified_header(token)["alg"]],
            issuer=ISSUER,
            # TODO tell-token-kinds-apart: which tokens open this door?
            audience=list(LIFE),
        )
        return int(claims["sub"])


def refused(why: str) -> HTTPException:
    return HTTPException(401, why, {"WWW-Authenticate": "Bearer"})


def holder_of(kind: str) -> Callable[[Request, str], Awaitable[Customer]]:
    """A dependency: the customer whose token of this kind came with the request."""

    async def holder(request: Request, token: Annotated[str, Depends(scheme)]) -> Customer:
        state = request.app.state
        # TODO answer-401-with-a-challenge: what is the reply to garbage, and who is still known?
        customer_id = state.tokens.read(token, kind)
        async with state.sessions() as session:
            customer: Customer | None = await session.get(Customer, customer_id)
        if customer is None:
            raise HTTPException(404, "there is no such customer")
        return customer

    return holder


scheme = OAuth2PasswordBearer(tokenUrl="token")
AccessHolder = Annotated[Customer, Depends(holder_of(ACCESS))]
LinkHolder = Annotated[Customer, Depends(holder_of(LINK))]


class Passwords:
    """Hashes passwords and compares them with hashes."""

    def __init__(self, hasher: PasswordHash) -> None:
        self._hasher = hasher
        self._limiter = CapacityLimiter(2)

    async def _work(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        # TODO hash-off-the-loop: who waits meanwhile, and how much memory do forty of these take?
        return work(*args)

    async def hash(self, password: str) -> str:
        return await self._work(self._hasher.hash, password)

    async def check(self, password: str, stored: str | None) -> tuple[bool, str | None]:
        """Whether it is the password; and a new hash of it where the stored one is out of date."""
        # TODO hide-who-exists: what do the replies tell a stranger, and how soon do they come?
        if stored is None:
            return False, None
        return await self._work(self._hasher.verify_and_update, password, stored)


async def by_email(session: AsyncSession, email: str) -> Customer | None:
    known = email.replace("\0", " ")  # PostgreSQL refuses a NUL; no address has a space
    return await session.scalar(select(Customer).where(Customer.email == known))


async def answer_invalid(_request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, RequestValidationError)
    errors = [{"loc": error["loc"], "msg": error["msg"]} for error in exc.errors()]
    return JSONResponse({"detail": errors}, 422)


def utc_now() -> datetime:
    return datetime.now(UTC)


def create_app(
    engine: AsyncEngine,
    *,
    secret: SecretStr,
    send: Send,
    hasher: PasswordHash | None = None,
    clock: Clock = utc_now,
) -> FastAPI:
    app = FastAPI()
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.state.sessions = sessions = async_sessionmaker(engine, expire_on_commit=False)
    app.state.tokens = tokens = Tokens(secret, clock)
    passwords = Passwords(hasher or PasswordHash.recommended())

    @app.post("/customers", status_code=202)
    async def ask_for_link(new: NewCustomer) -> dict[str, str]:
        try:
            async with sessions.begin() as session:
                session.add(Customer(email=new.email))
        except IntegrityError:
            raise HTTPException(409, f"{new.email} is a customer already") from None
        async with sessions() as session:
            customer = await by_email(session, new.email)
        if customer is not None:
            await send(customer.email, tokens.sign(customer, LINK))
        return {"detail": "a letter is on its way to this address"}

    @app.post("/password", status_code=204)
    async def set_password(new: NewPassword, customer: LinkHolder) -> None:
        hashed = await passwords.hash(new.password.get_secret_value())
        async with sessions.begin() as session:
            mine = update(Customer).where(Customer.id == customer.id)
            await session.execute(mine.values(password_hash=hashed))

    @app.post("/token")
    async def sign_in(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> dict[str, str]:
        async with sessions() as session:
            customer = await by_email(session, form.username)
        if customer is None or customer.blocked:
            raise HTTPException(404, "there is no such customer")
        stored = customer.password_hash
        valid, renewed = await passwords.check(form.password, stored)
        if not valid:
            raise refused("wrong password")
        if renewed:
            async with sessions.begin() as session:
                same = (Customer.id == customer.id, Customer.password_hash == stored)
                await session.execute(update(Customer).where(*same).values(password_hash=renewed))
        return {"access_token": tokens.sign(customer, ACCESS), "token_type": "bearer"}

    @app.get("/me")
    async def show_me(customer: AccessHolder) -> dict[str, int | str]:
        return {"id": customer.id, "email": customer.email}

    return app
