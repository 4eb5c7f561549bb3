"""How the customers of a shop stay signed in, and how they stop.

A customer signs in once on each device, with e-mail and password. The device gets an access token
for five minutes, and a refresh token in a cookie, which buys the next two and is spent. All refresh
tokens that come of one sign-in are its family.

There already: the tables, the routes, what they answer, a 422 that repeats no input, and the
verifying of passwords, off the loop.
    POST /session {"email", "password"}            200 {"access_token", …} and the cookie
    POST /session/refresh                          the same, for the cookie
    GET /session                                   200 {"customer"}: whose cookie it is
    POST /session/logout                           204: its sign-in ends, spent token or not
    POST /password {"email", "password", "new"}    204: all sign-ins of the customer end
A logout without a good cookie is a 204 as well. Otherwise, who brings no good password or cookie is
told 401. A spent token that is refreshed again ends its family. A sign-in ends 14 days after its
last refresh, and 30 days after it began; the customer's other ones go on. The shop's pages and this
API are one site. The token is in the cookie only, which goes to /session only, and no script of a
page sees it.

Seams of create_app: `secret` signs access tokens and has 32 bytes or more. `hasher` is a
`PasswordHash`, by default with pwdlib's recommended parameters. `clock` tells the time, in UTC. The
shop has several workers: at any moment another one may set `RefreshToken.used_at` or
`Customer.password_hash`, or store the next token of a refresh that is under way.
"""

import secrets
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated

import jwt
from anyio import CapacityLimiter, to_thread
from fastapi import Cookie, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pwdlib import PasswordHash
from pydantic import BaseModel, Field, SecretStr
from sqlalchemy import ColumnElement, DateTime, ForeignKey, Update, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

COOKIE, PATH = "refresh", "/session"
ACCESS, IDLE, LONGEST = timedelta(minutes=5), timedelta(days=14), timedelta(days=30)


class Base(DeclarativeBase):
    type_annotation_map = {datetime: DateTime(timezone=True)}  # noqa: RUF012


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]


class SignIn(Base):
    __tablename__ = "sign_ins"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), index=True)
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class RefreshToken(Base):
    __tablename__ = "refresh_tokens"
    token_hash: Mapped[str] = mapped_column(primary_key=True)
    sign_in_id: Mapped[int] = mapped_column(
        ForeignKey("sign_ins.id", ondelete="CASCADE"), index=True
    )
    used_at: Mapped[datetime | None]


class Credentials(BaseModel):
    email: Annotated[str, Field(max_length=254, pattern=r"^[^\s\x00]+$")]
    password: Annotated[SecretStr, Field(max_length=128)]


class NewPassword(Credentials):
    new: Annotated[SecretStr, Field(min_length=15, max_length=128)]


class Access(BaseModel):
    access_token: str
    token_type: str = "bearer"
    expires_in: int = ACCESS // timedelta(seconds=1)


def utc_now() -> datetime:
    return datetime.now(UTC)


async def answer_invalid(_request: Request, exc: Exception) -> JSONResponse:
    """Says what is wrong with a request, and repeats no password."""
    assert isinstance(exc, RequestValidationError)
    errors = [{"loc": error["loc"], "msg": error["msg"]} for error in exc.errors()]
    return JSONResponse({"detail": errors}, 422)


def refused() -> HTTPException:
    return HTTPException(401, "sign in again", {"WWW-Authenticate": "Cookie"})


def live(now: datetime) -> tuple[ColumnElement[bool], ...]:
    """What is true of a sign-in that has not ended."""
    return (
        SignIn.ended_at.is_(None),
        SignIn.seen_at > now - IDLE,
        SignIn.started_at > now - LONGEST,
    )


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as db:
        yield db
        await db.commit()


SessionDep = Annotated[AsyncSession, Depends(open_session, scope="function")]
RefreshCookie = Annotated[str, Cookie(alias=COOKIE)]


def create_app(
    engine: AsyncEngine,
    *,
    secret: SecretStr,
    hasher: PasswordHash | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> FastAPI:
    key = secret.get_secret_value()
    if len(key.encode()) < 32:
        raise ValueError("the secret for signing tokens needs 32 bytes or more")
    hasher, two_at_a_time = hasher or PasswordHash.recommended(), CapacityLimiter(2)
    app = FastAPI()
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.state.sessions = sessions = async_sessionmaker(engine, expire_on_commit=False)

    def digest(token: str) -> str:
        return sha256(token.encode()).hexdigest()

    def hand_out(db: AsyncSession, sign_in_id: int) -> str:
        """The next refresh token of a sign-in."""
        token = secrets.token_urlsafe(32)
        db.add(RefreshToken(token_hash=digest(token), sign_in_id=sign_in_id))
        return token

    def end_of(token: str) -> Update:
        """Ends the sign-in that a token came of, spent or not."""
        whose = select(RefreshToken.sign_in_id).where(RefreshToken.token_hash == digest(token))
        ended = update(SignIn).where(SignIn.id.in_(whose), SignIn.ended_at.is_(None))
        return ended.values(ended_at=clock())

    def access(customer_id: int) -> Access:
        claims = {"sub": str(customer_id), "iat": clock(), "exp": clock() + ACCESS}
        return Access(access_token=jwt.encode(claims, key, algorithm="HS256"))

    def unchanged(customer: Customer) -> Update:
        """Finds a customer whose password is still the one that was verified."""
        same = (Customer.id == customer.id, Customer.password_hash == customer.password_hash)
        return update(Customer).where(*same).returning(Customer.id)

    async def hashed(password: SecretStr) -> str:
        plain = password.get_secret_value()
        return await to_thread.run_sync(hasher.hash, plain, limiter=two_at_a_time)

    async def by_password(given: Credentials) -> Customer:
        async with sessions() as db:
            customer = await db.scalar(select(Customer).where(Customer.email == given.email))
        if customer is None:
            await hashed(given.password)  # a stranger waits as long as a customer
            raise refused()
        plain, stored = given.password.get_secret_value(), customer.password_hash
        if not await to_thread.run_sync(hasher.verify, plain, stored, limiter=two_at_a_time):
            raise refused()
        return customer

    @app.post("/session")
    async def sign_in(given: Credentials, response: Response) -> Access:
        customer, now = await by_password(given), clock()
        async with sessions.begin() as db:
            kept = unchanged(customer).values(password_hash=customer.password_hash)
            if await db.scalar(kept) is None:
                raise refused()
            begun = SignIn(customer_id=customer.id, started_at=now, seen_at=now)
            db.add(begun)
            await db.flush()
            token = hand_out(db, begun.id)
        return answer(response, customer.id, token)

    @app.post("/password", status_code=204)
    async def change_password(given: NewPassword) -> None:
        customer, new_hash = await by_password(given), await hashed(given.new)
        async with sessions.begin() as db:
            if await db.scalar(unchanged(customer).values(password_hash=new_hash)) is None:
                raise refused()
            ended = update(SignIn).where(SignIn.customer_id == customer.id)
            await db.execute(ended.where(SignIn.ended_at.is_(None)).values(ended_at=clock()))

    @app.post("/session/refresh")
    async def refresh(response: Response, db: SessionDep, token: RefreshCookie = "") -> Access:
        now, this = clock(), RefreshToken.token_hash == digest(token)
        spent = update(RefreshToken).where(this, RefreshToken.used_at.is_(None))
        spent = spent.values(used_at=now)
        sign_in_id = await db.scalar(spent.returning(RefreshToken.sign_in_id))
        if sign_in_id is None:
            await db.rollback()
            async with sessions.begin() as own:
                await own.execute(end_of(token))
            raise refused()
        seen = update(SignIn).where(SignIn.id == sign_in_id, *live(now)).values(seen_at=now)
        customer_id = await db.scalar(seen.returning(SignIn.customer_id))
        if customer_id is None:
            raise refused()
        return answer(response, customer_id, hand_out(db, sign_in_id))

    def answer(response: Response, customer_id: int, token: str) -> Access:
        response.headers["Cache-Control"] = "no-store"
        response.set_cookie(
            COOKIE,
            token,
            max_age=IDLE // timedelta(seconds=1),
            path=PATH,
            secure=True,
            httponly=True,
            samesite="strict",
        )
        return access(customer_id)

    @app.get("/session")
    async def show_session(db: SessionDep, token: RefreshCookie = "") -> dict[str, int]:
        found = select(SignIn.customer_id).join(RefreshToken).where(*live(clock()))
        unspent = (RefreshToken.token_hash == digest(token), RefreshToken.used_at.is_(None))
        customer_id = await db.scalar(found.where(*unspent))
        if customer_id is None:
            raise refused()
        return {"customer": customer_id}

    @app.post("/session/logout", status_code=204)
    async def sign_out(response: Response, db: SessionDep, token: RefreshCookie = "") -> None:
        response.delete_cookie(COOKIE, path=PATH, secure=True, httponly=True, samesite="strict")
        await db.execute(end_of(token))

    return app
