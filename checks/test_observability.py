"""The checks of observability: what the people on call see of a request."""

import asyncio
import io
import json
import re
import threading
from collections import Counter
from contextlib import contextmanager
from contextvars import Context, copy_context

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event
from sqlalchemy.util import await_only

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
    """How many requests /metrics has counted, by the values of its labels in their order."""
    found = Counter()
    for family in text_string_to_metric_families(reply.text if reply.is_success else ""):
        for name, labels, value, *_ in family.samples:
            if name == "shop_requests_total":
                found[" ".join(labels[name] for name in sorted(labels))] += int(value)
    return dict(found)


def tracing():
    """A tracer provider and the list of spans that it has finished, as a function."""
    spans, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider, spans.get_finished_spans


@contextmanager
def meanwhile(db, **does):
    """In the block the engine under grade calls these at moments of its driver's."""
    for moment, call in does.items():
        event.listen(db.engine.sync_engine, moment, call)
    yield
    for moment, call in does.items():
        event.remove(db.engine.sync_engine, moment, call)


def fail(_cursor, _sql, _parameters, context):
    """As `do_execute`: the database answers with an error."""
    raise context.dialect.loaded_dbapi.Error("the disk is full")


async def work_elsewhere(service, messages):
    """Works the messages off as another process would, without the context of the request."""

    async def work(message):
        await service.state.work(json.loads(message))

    for message in messages:
        await asyncio.create_task(work(message), context=Context())


async def test_carry_a_request_id(app, serve, db):
    """A request has the caller's id or a new one, in its reply and lines, and nothing of others."""
    log, contexts = io.StringIO(), []
    good, bad = "Shop_7.a-" + "9" * 55, ["shop-7 {event}", "shop-7\xe9", "x" * 65]

    def remember(inner):
        """Middleware that keeps the context in which each part of a reply was sent."""

        async def sending(scope, receive, send):
            async def send_on(message):
                contexts.append(copy_context())
                await send(message)

            await inner(scope, receive, send_on)

        return sending

    service = app.create_app(db.engine, log=log)
    service.add_middleware(remember)
    client = await serve(service)

    async def told(request_id):
        headers = {b"X-Request-ID": request_id.encode("latin-1")}
        reply = await client.get("/nowhere", headers=headers)
        return reply.headers.get("X-Request-ID", "")

    def ended(field):
        return [line.get(field) for line in lines(log) if line.get("event") == "request"]

    kept, *new = [await told(request_id) for request_id in (good, *bad)]

    assert {
        "kept": kept,
        "replies": [kept, *new],
        "taken": [given for given, got in zip(bad, new, strict=True) if got[:5] == given[:5]],
    } == {"kept": good, "replies": ended("request_id"), "taken": []}, (
        "the ids in the replies are those in the lines; an id with a space, an é, or 65 characters "
        "is not taken, nor a part of it"
    )

    await client.post("/v1/orders/7/shipment", headers={"X-Desk": "warehouse"})
    await asyncio.create_task(told("shop-8"), context=contexts[-1])

    assert ended("desk")[-2:] == ["warehouse", None], (
        "the desks in the lines of two requests; the second named none, and began as the first "
        "one's reply was sent"
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
        who = {"X-Desk": f"desk-{order_id}"}
        await client.post(f"/v1/orders/{order_id}/shipment", headers=who)
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
    patient, impatient = await start(), await start(ready_timeout=0.005)

    async def asked(client, **does):
        with meanwhile(db, **does):
            return {path: (await client.get(path)).status_code for path in ("/live", "/ready")}

    def refuse(*_):
        raise ConnectionRefusedError(111, "Connect call failed")

    def hesitate(*_):
        # Starts after the time limit of /ready and is longer: on no machine does it end first.
        await_only(asyncio.sleep(0.02))

    refused, slow, well, failing = (
        await asked(patient, do_connect=refuse),
        await asked(impatient, do_connect=hesitate),
        await asked(patient),
        await asked(patient, do_execute=fail),
    )

    assert {"refuses": refused, "is slow": slow, "answers": well, "fails": failing} == {
        "refuses": {"/live": 200, "/ready": 503},
        "is slow": {"/live": 200, "/ready": 503},
        "answers": {"/live": 200, "/ready": 200},
        "fails": {"/live": 200, "/ready": 503},
    }, "the replies while the database does that"


@pytest.mark.on_postgresql_too("its errors name the value of a unique column")
async def test_log_no_secrets(start, db):
    """A code that opens a locker stands in no line and in no span, whatever goes wrong."""
    log, (provider, finished) = io.StringIO(), tracing()

    def jammed_printer(order_id):
        if order_id == 9:
            raise OSError("no paper")

    client = await start(log=log, tracer_provider=provider, print_label=jammed_printer)

    async def ship(order_id, code):
        url = f"/v1/orders/{order_id}/shipment?code={code}"
        headers = {"X-Desk": "warehouse", "Referer": f"http://shop/mail?code={code}"}
        reply = await client.post(url, json={"code": code}, headers=headers)
        return reply.status_code

    stored, refused, crashed = (
        await ship(7, CODE),
        await ship(8, CODE),
        await ship(9, CODE.replace("4711", "4712")),
    )
    with meanwhile(db, do_execute=fail):
        failed = await ship(7, CODE.replace("4711", "4713"))

    assert {"stored": stored, "refused": refused, "crashed": [crashed, failed]} == {
        "stored": 201,
        "refused": 409,
        "crashed": [500, 500],
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

    crashed, metrics = (
        await client.post(
            "/v1/orders/7/shipment", json={"code": CODE}, headers={"X-Desk": "warehouse"}
        ),
        await client.get("/metrics"),
    )

    telling = [line for line in lines(log) if "no paper" in str(line)]
    assert {
        "told": crashed.status_code,
        "lines": [line["event"] for line in telling],
        "left to the server": db.order("crash"),
        "request": [line["status"] for line in lines(log) if line["event"] == "request"][:1],
        "counted": [labels.split()[-1] for labels in counted(metrics)],
    } == {
        "told": 500,
        "lines": ["failed"],
        "left to the server": [],
        "request": [500],
        "counted": ["500"],
    }, "what is told of one crash, and the status in its line and its count"
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
    before = len(finished())
    await work_elsewhere(service, sent)

    traces = [trace.format_trace_id(span.context.trace_id) for span in finished()]
    assert {
        "lines": said(log, "trace_id", "label printed", "request", "mail sent"),
        "spans": {"request": {*traces[:before]}, "job": {*traces[before:]}},
    } == {
        "lines": {"label printed": TRACE, "request": TRACE, "mail sent": TRACE},
        "spans": {"request": {TRACE}, "job": {TRACE}},
    }, "the trace ids of one request"
