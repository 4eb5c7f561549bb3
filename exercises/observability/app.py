"""The shipping desk, and what the people on call see of it.

A desk hands an order to the carrier: POST /v1/orders/7/shipment stores the shipment with the code
that opens the locker, prints a label and has a mail sent. Links in mails carry that code too, as
`?code=`. Whoever reads logs, numbers or spans must be able to follow one request through all of
it, and must never learn a code.

What they read, and checks rely on:
- One JSON object a line on the stream `log`, with `event`. A request ends with the line "request"
  (`method`, `path`, `status`), one that crashes too; on its way come "label printed", "refused" or
  "failed", and from the worker "mail sent". Of a crash one line tells, "failed", with the stack.
- `request_id` in every line: what the caller sent as X-Request-ID if that is 1 to 64 of
  `A-Z a-z 0-9 . _ -`, else a new one. Every reply has it as X-Request-ID, a 500 too. Where a desk
  is known (header X-Desk), its lines have `desk`.
- `trace_id` in every line of a traced request: 32 hex digits, those of its spans.
- /metrics counts this app's requests in `shop_requests_total` by `method`, `route` and `status`.
  The route is the template with its prefixes, `unmatched` where there is none; the method is
  `other` where HTTP does not define it.
- /live says 200 while the process runs, whatever the database does. /ready says 200 while the
  database answers, else 503, after `ready_timeout` seconds at most.

Seams of create_app: `log`, a text stream; `tracer_provider` of OpenTelemetry, by default the global
one; `print_label(order_id)`, which blocks; `send(message)`, which hands JSON to the broker, whose
worker runs `await app.state.work(message)`, in another process; `ready_timeout`.
"""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TextIO
from uuid import uuid4

import structlog
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Path, Response
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from opentelemetry import propagate, trace
from opentelemetry.trace import TracerProvider
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel, StringConstraints
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, FilteringBoundLogger, Processor

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
METHODS = {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}


class Base(DeclarativeBase):
    pass


class Shipment(Base):
    __tablename__ = "shipments"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int]
    code: Mapped[str] = mapped_column(unique=True)


class NewShipment(BaseModel):
    code: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{20,40}$")]


def add_trace_id(_logger: Any, _method: str, line: EventDict) -> EventDict:
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        line["trace_id"] = trace.format_trace_id(span.trace_id)
    return line


def make_logger(stream: TextIO) -> FilteringBoundLogger:
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_trace_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    stacks = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
    processors += [stacks, structlog.processors.JSONRenderer()]
    level = structlog.make_filtering_bound_logger("info")
    logger: FilteringBoundLogger
    logger = structlog.wrap_logger(structlog.PrintLogger(stream), processors, level)
    return logger


def request_id_of(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    # TODO carry-a-request-id: what may a stranger write into every line of the log?
    return given or str(uuid4())


def route_of(scope: Scope) -> str:
    # TODO label-metrics-by-route: how many different labels can this return?
    return str(scope["path"])


class Observe:
    """Gives each request its id, counts it, and logs how it ended."""

    def __init__(self, app: ASGIApp, log: FilteringBoundLogger, requests: Counter) -> None:
        self.app, self.log, self.requests = app, log, requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request_id, status = request_id_of(scope), 0
        clear_contextvars()
        bind_contextvars(request_id=request_id)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        if scope["query_string"]:
            trace.get_current_span().set_attribute("url.query", "hidden")
        # TODO log-an-error-once: who logs what is raised here, and where is the stack?
        try:
            await self.app(scope, receive, send_with_id)
        except Exception as exc:
            self.log.error("failed", error=str(exc))
            raise
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.requests.labels(method, route_of(scope), status).inc()
        # TODO log-no-secrets: what stands behind the question mark?
        path = f"{scope['path']}?{scope['query_string'].decode()}"
        self.log.info("request", method=method, path=path, status=status)


async def known_desk(x_desk: Annotated[str, Header(max_length=20)]) -> None:
    bind_contextvars(desk=x_desk)


async def no_broker(message: dict[str, Any]) -> None:
    """Where no broker is configured, nobody gets a mail."""


def no_printer(order_id: int) -> None:
    """Where no printer is configured, nobody gets a label."""


def create_app(
    engine: AsyncEngine,
    *,
    log: TextIO = sys.stderr,
    tracer_provider: TracerProvider | None = None,
    print_label: Callable[[int], None] = no_printer,
    send: Callable[[dict[str, Any]], Awaitable[None]] = no_broker,
    ready_timeout: float = 2.0,
) -> FastAPI:
    logger, registry = make_logger(log), CollectorRegistry()
    requests = Counter(
        "shop_requests", "Requests", ["method", "route", "status"], registry=registry
    )
    engine.sync_engine.hide_parameters = True
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    # TODO follow-the-trace: who starts a span for each request, in the caller's trace?
    app = FastAPI()
    tracer = trace.get_tracer("shop", tracer_provider=tracer_provider)
    app.add_middleware(Observe, log=logger, requests=requests)
    orders = APIRouter(prefix="/orders")

    def make_label(order_id: int) -> None:
        print_label(order_id)
        logger.info("label printed", order=order_id)

    @orders.post("/{order_id}/shipment", status_code=201, dependencies=[Depends(known_desk)])
    async def ship(order_id: Annotated[int, Path(ge=1, lt=2**31)], new: NewShipment) -> int:
        async with sessions() as session:
            shipment = Shipment(order_id=order_id, code=new.code)
            session.add(shipment)
            try:
                await session.commit()
            except IntegrityError as exc:
                logger.warning("refused", order=order_id, reason=type(exc.orig).__name__)
                raise HTTPException(409, "another shipment has this code") from None
        # TODO keep-context-across-threads-and-jobs: what do thread and worker know of this request?
        labels: dict[str, str] = {}
        propagate.inject(labels)
        await asyncio.get_running_loop().run_in_executor(None, make_label, order_id)
        await send({"shipment": shipment.id, "labels": labels})
        return shipment.id

    app.include_router(orders, prefix="/v1")

    async def send_mail(message: dict[str, Any]) -> None:
        labels = message["labels"]
        clear_contextvars()
        bind_contextvars(request_id=labels.get("request_id"))
        with tracer.start_as_current_span("mail", propagate.extract(labels)):
            logger.info("mail sent", shipment=message["shipment"])

    app.state.work = send_mail

    # TODO tell-live-from-ready: what does a restart mend while the database is down?
    @app.get("/live")
    @app.get("/ready")
    async def ready() -> str:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
        return "ready"

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app
