"""The checks of observability: what the people on call see of a request."""

import asyncio
import io
import json
import re
import threading
from collections import Counter
from contextvars import Context

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event

CODE = "locker-4711-not-a-real-code"
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(autouse=True)
def reset_structlog():
    """What an app has configured for the whole process ends with its check."""
    yield
    structlog.reset_defaults()


def lines(log):
    """The lines of a log, each parsed as JSON; what is no JSON is an event."""
    found = []
    for line in log.getvalue().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            found.append({"event": line})
    return found


def said(log, field, *events):
    """By event, what its last line says in a field; None where it says nothing."""
    last = {line.get("event"): line.get(field) for line in lines(log)}
    return {event: last.get(event) for event in events}


def counted(reply):
    """How many requests /metrics has counted, by "method route status"."""
    found = Counter()
    for family in text_string_to_metric_families(reply.text if reply.is_success else ""):
        for name, labels, value, *_ in family.samples:
            if name == "shop_requests_total":
                found["{method} {route} {status}".format(**labels)] += int(value)
    return dict(found)


def tracing():
    """A tracer provider and the list of spans that it has finished, as a function."""
    spans, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider, spans.get_finished_spans


async def work_elsewhere(service, messages):
    """Works the messages off as another process would, without the context of the request."""

    async def work(message):
        await service.state.work(json.loads(message))

    for message in messages:
        await asyncio.create_task(work(message), context=Context())


async def test_carry_a_request_id(start):
    """A request has the caller's id or a new one, in its reply and lines, and nothing of others."""
    log = io.StringIO()
    client = await start(log=log)

    async def told(request_id):
        reply = await client.get("/nowhere", headers={"X-Request-ID": request_id})
        return reply.headers.get("X-Request-ID")

    def ended(field):
        return [line.get(field) for line in lines(log) if line.get("event") == "request"]

    kept, spaced, long = (
        await told("shop-7"),
        await told("shop-7 {event}"),
        await told("x" * 65),
    )

    assert {
        "kept": kept,
        "replies": [kept, spaced, long],
        "taken as sent": sorted({spaced, long} & {"shop-7 {event}", "x" * 65}),
    } == {"kept": "shop-7", "replies": ended("request_id"), "taken as sent": []}, (
        "the ids in the replies are those in the lines; with a space, or 65 characters, it is none"
    )

    await client.post("/v1/orders/7/shipment", headers={"X-Desk": "warehouse"})
    await told("shop-8")

    assert ended("desk")[-2:] == ["warehouse", None], (
        "the desks in the lines of two requests, of which the second named none"
    )


async def test_keep_context_across_threads_and_jobs(app, serve, db):
    """Each line of a request has its own id and desk, from threads and from the worker too."""
    log, sent, both_print = io.StringIO(), [], threading.Barrier(2)

    async def send(message):
        sent.append(json.dumps(message))

    def print_label(order_id):
        both_print.wait(timeout=3)

    service = app.create_app(db.engine, log=log, send=send, print_label=print_label)
    client = await serve(service)

    async def ship(order_id, desk):
        who = {"X-Request-ID": f"shop-{order_id}", "X-Desk": desk}
        order = {"code": CODE.replace("4711", str(order_id))}
        await client.post(f"/v1/orders/{order_id}/shipment", json=order, headers=who)

    def told(event, *fields):
        found = [line for line in lines(log) if line.get("event") == event]
        return sorted(" ".join(str(line.get(field)) for field in fields) for line in found)

    await asyncio.gather(ship(7, "warehouse"), ship(8, "harbour"))
    await work_elsewhere(service, sent)

    assert {
        "label printed": told("label printed", "request_id", "desk"),
        "request": told("request", "request_id", "desk"),
        "mail sent": told("mail sent", "request_id"),
    } == {
        "label printed": ["shop-7 warehouse", "shop-8 harbour"],
        "request": ["shop-7 warehouse", "shop-8 harbour"],
        "mail sent": ["shop-7", "shop-8"],
    }, "the ids and desks in the lines of two requests at once"


async def test_label_metrics_by_route(start):
    """However many ids, paths and methods clients think of, the number of series is bounded."""
    client, beside = await start(), await start()
    for order_id in (1, 2):
        await client.post(f"/v1/orders/{order_id}/shipment")
        await client.get(f"/nowhere/{order_id}")
    await client.request("BREW", "/nowhere")

    metrics, others = await client.get("/metrics"), await beside.get("/metrics")

    assert {"this app": counted(metrics), "another app": counted(others)} == {
        "this app": {
            "POST /v1/orders/{order_id}/shipment 422": 2,
            "GET unmatched 404": 2,
            "other unmatched 404": 1,
        },
        "another app": {},
    }, "the series of five requests"


async def test_tell_live_from_ready(start, db):
    """Without a database the app is alive and not ready, and says so in time."""
    client, impatient = await start(), await start(ready_timeout=0.005)
    taken, given_back = asyncio.Event(), asyncio.Event()

    async def asked(client):
        replies = {path: await client.get(path) for path in ("/live", "/ready")}
        return {path: reply.status_code for path, reply in replies.items()}

    async def use_all_connections():
        async with db.engine.connect(), db.engine.connect():
            taken.set()
            await given_back.wait()

    def refuse(*_):
        raise ConnectionRefusedError(111, "Connect call failed")

    event.listen(db.engine.sync_engine, "do_connect", refuse)
    down = await asked(client)

    assert down == {"/live": 200, "/ready": 503}, "the database refuses connections"

    event.remove(db.engine.sync_engine, "do_connect", refuse)
    others = asyncio.create_task(use_all_connections())
    await taken.wait()
    # Without a time limit /ready gets its connection in the end, and says 200.
    asyncio.get_running_loop().call_later(0.9, given_back.set)
    busy = await asked(impatient)
    given_back.set()
    await others
    up = await asked(client)

    assert {"busy": busy, "up": up} == {
        "busy": {"/live": 200, "/ready": 503},
        "up": {"/live": 200, "/ready": 200},
    }, "every connection is in use, then the database answers again"


@pytest.mark.on_postgresql_too("its errors name the value of a unique column")
async def test_log_no_secrets(start):
    """A code that opens a locker stands in no line and in no span, whatever goes wrong."""
    log, (provider, finished) = io.StringIO(), tracing()

    def jammed_printer(order_id):
        if order_id == 9:
            raise OSError("no paper")

    client = await start(log=log, tracer_provider=provider, print_label=jammed_printer)

    async def ship(order_id, code):
        url = f"/v1/orders/{order_id}/shipment?code={code}"
        headers = {"X-Desk": "warehouse", "Authorization": f"Bearer {code}"}
        reply = await client.post(url, json={"code": code}, headers=headers)
        return reply.status_code

    stored, refused, crashed = (
        await ship(7, CODE),
        await ship(8, CODE),
        await ship(9, CODE.replace("4711", "4712")),
    )

    assert {"stored": stored, "refused": refused, "crashed": crashed} == {
        "stored": 201,
        "refused": 409,
        "crashed": 500,
    }
    assert [line["event"] for line in lines(log) if "locker-47" in str(line)] == [], (
        "lines with a code"
    )
    assert [span.name for span in finished() if "locker-47" in span.to_json()] == [], (
        "spans with a code"
    )


async def test_log_an_error_once(start, db):
    """A crash is one line, with its stack and the id that the client was told."""
    log = io.StringIO()

    def jammed_printer(order_id):
        raise OSError("no paper")

    client = await start(log=log, print_label=jammed_printer)

    crashed = await client.post(
        "/v1/orders/7/shipment", json={"code": CODE}, headers={"X-Desk": "warehouse"}
    )

    telling = [line for line in lines(log) if "no paper" in str(line)]
    assert {
        "told": crashed.status_code,
        "lines": [line["event"] for line in telling],
        "left to the server": db.order("crash"),
    } == {"told": 500, "lines": ["failed"], "left to the server": []}, "the lines of one crash"
    assert {
        "id": telling[0].get("request_id"),
        "in the stack": re.findall("jammed_printer", str(telling))[:1],
    } == {"id": crashed.headers.get("X-Request-ID"), "in the stack": ["jammed_printer"]}, (
        "the line of the crash has the id of the reply, and the stack"
    )


async def test_follow_the_trace(app, serve, db):
    """The caller's trace goes on in the spans and lines of the request and of its job."""
    log, sent, (provider, finished) = io.StringIO(), [], tracing()

    async def send(message):
        sent.append(json.dumps(message))

    service = app.create_app(db.engine, log=log, send=send, tracer_provider=provider)
    client = await serve(service)
    caller = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "X-Desk": "warehouse"}

    await client.post("/v1/orders/7/shipment", json={"code": CODE}, headers=caller)
    await work_elsewhere(service, sent)

    assert {
        "lines": said(log, "trace_id", "label printed", "request", "mail sent"),
        "spans": {trace.format_trace_id(span.context.trace_id) for span in finished()},
    } == {
        "lines": {"label printed": TRACE, "request": TRACE, "mail sent": TRACE},
        "spans": {TRACE},
    }, "the trace ids of one request"
