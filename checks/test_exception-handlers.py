import logging
import re

from pydantic import TypeAdapter

PROBLEM = "application/problem+json"
OURS = "the shop's shape"
CARD = "4000-1234-5678-9010"


def statuses(**replies):
    return {name: reply.status_code for name, reply in replies.items()}


def media(reply):
    return reply.headers.get("content-type", "").partition(";")[0]


def document(reply):
    body = reply.json() if "json" in media(reply) else None
    return body if isinstance(body, dict) else {}


def shape(reply, ours):
    """OURS for a reply that looks like an error of the shop's own; else what it looks like."""
    alike = media(reply) == media(ours) and document(reply).keys() & document(ours).keys()
    return OURS if alike else f"{media(reply)} {[*document(reply)]}"


async def test_map_one_base_error(app, start, db):
    """Every error of the shop has an answer with its own status, a class added later too."""
    await db.add(
        app.Product(sku="tea", left=1),
        app.Product(sku="jam", left=0),
        app.Order(id=7, sku="tea", email="ann@shop.example", payment="p-7", cancelled=True),
    )

    class AddedLaterError(app.AppError):
        status, kind, title = 423, "label-pending", "The label is not there yet"

    async def print_label(order_id):
        raise AddedLaterError(f"order {order_id}")

    client = await start(print_label=print_label)
    order = {"email": "bob@shop.example", "card": "4000123456789010"}
    stored = await client.post("/orders", json=order | {"sku": "tea"})
    sold_out, closed, added_later = (
        await client.post("/orders", json=order | {"sku": "jam"}),
        await client.post("/orders/7/cancel"),
        await client.get("/orders/7/label", headers={"X-Desk": "warehouse"}),
    )

    assert statuses(stored=stored, sold_out=sold_out, closed=closed, added_later=added_later) == {
        "stored": 201,
        "sold_out": 409,
        "closed": 409,
        "added_later": 423,
    }, "each AppError says its status; added_later is a new subclass with 423"


async def test_name_errors_apart(app, start, db):
    """The shop's own refusal is a 403; what fails inside is a fault of the server, not a 4xx."""
    for order_id in (1, 2, 3, 4):
        await db.add(app.Order(id=order_id, sku="tea", email="ann@shop.example", payment="p"))

    async def print_label(order_id):
        if order_id == 2:
            raise PermissionError(13, "Permission denied", "/srv/labels/2.txt")
        return TypeAdapter(str).validate_python({1: "tea for ann", 3: None}[order_id])

    client = await start(print_label=print_label)

    async def label(order_id, desk="warehouse"):
        reply = await client.get(f"/orders/{order_id}/label", headers={"X-Desk": desk})
        return reply.status_code

    own = {"printed": await label(1), "refused": await label(1, desk="front")}
    inner = {"locked": await label(2), "garbled": await label(3), "missing": await label(4)}

    assert own == {"printed": 200, "refused": 403}, "the front desk gets the shop's refusal"
    assert {fault: status for fault, status in inner.items() if status < 500} == {}, (
        "a label that cannot be read is a 5xx: the client did nothing wrong"
    )


async def test_answer_problem_json(app, client, db):
    """An error is a problem document: media type, status, and one type for each kind."""
    await db.add(
        app.Product(sku="jam", left=0),
        app.Order(id=7, sku="tea", email="ann@shop.example", payment="p-7", cancelled=True),
    )

    order = {"sku": "jam", "email": "bob@shop.example", "card": "4000123456789010"}
    sold_out = await client.post("/orders", json=order)
    again = await client.post("/orders", json=order | {"email": "eve@shop.example"})
    closed = await client.post("/orders/7/cancel")
    no_desk = await client.get("/orders/7/label")

    assert {
        "status": sold_out.status_code,
        "media type": media(sold_out),
        "status in the body": document(sold_out).get("status"),
    } == {"status": 409, "media type": PROBLEM, "status in the body": 409}, (
        "a 409 as problem document"
    )
    assert "p-7" not in closed.text, "the note for the log went to the client"
    kind = document(sold_out).get("type")
    replies = {"sold_out": sold_out, "again": again, "closed": closed}
    assert [name for name, r in replies.items() if document(r).get("type") == kind] == [
        "sold_out",
        "again",
    ], f"the errors of the type {kind!r}"
    assert "None" not in str(document(no_desk).get("type", "about:blank")), (
        "a 401 is no kind of the shop's: its type is about:blank"
    )


async def test_catch_the_routers_errors_too(client):
    """Router and dependencies answer in the same shape, and keep their status and headers."""
    ours = await client.post("/orders/7/cancel")
    no_page, no_method, no_desk = (
        await client.get("/nowhere"),
        await client.delete("/orders"),
        await client.get("/orders/7/label"),
    )

    replies = (no_page, no_method, no_desk)
    assert {reply.status_code: shape(reply, ours) for reply in replies} == {
        404: OURS,
        405: OURS,
        401: OURS,
    }, f"an error of the shop's own is {media(ours)} {[*document(ours)]}"
    kept = {"Allow": no_method.headers.get("allow")}
    kept["WWW-Authenticate"] = no_desk.headers.get("www-authenticate")
    assert kept == {"Allow": "POST", "WWW-Authenticate": "Desk"}, "headers of the 405 and the 401"


async def test_never_echo_input(client, caplog):
    """A 422 names the field that is wrong, and repeats no value, in the reply or in the log."""
    caplog.set_level(logging.DEBUG)

    order = {"sku": "tea", "card": CARD}
    no_email, bad_card = (
        await client.post("/orders", json=order),
        await client.post("/orders", json=order | {"email": "bob@shop.example"}),
    )

    assert CARD not in no_email.text + bad_card.text, "the reply repeats the card number"
    assert CARD not in caplog.text + str([vars(record) for record in caplog.records]), (
        "the log has the card number"
    )
    assert statuses(no_email=no_email, bad_card=bad_card) | {
        "field": re.findall("email", no_email.text)[:1],
    } == {"no_email": 422, "bad_card": 422, "field": ["email"]}, "a 422 that names the field"


async def test_hide_unexpected_errors(app, start, db, caplog):
    """An unexpected error is a plain 500 that names its one entry in the log."""
    await db.add(app.Order(id=7, sku="tea", email="ann@shop.example", payment="p-7"))

    class CarrierError(Exception):
        pass

    async def broken(order_id):
        raise CarrierError("cannot reach labels:hunter2@10.0.0.7")

    client = await start(print_label=broken)
    from_shop = {"X-Desk": "warehouse", "Origin": "https://shop.example"}
    ours = await client.post("/orders/8/cancel")
    crashed, again = [await client.get("/orders/7/label", headers=from_shop) for _ in range(2)]

    assert crashed.headers.get("access-control-allow-origin") == "https://shop.example", (
        f"the Access-Control-Allow-Origin of the {crashed.status_code}"
    )
    assert {crashed.status_code: shape(crashed, ours)} == {500: OURS}, (
        f"an error of the shop's own is {media(ours)} {[*document(ours)]}"
    )
    assert re.findall("CarrierError|hunter2", crashed.text) == [], (
        "the client reads the name or the text of the exception"
    )
    logged = [str(vars(record)) for record in caplog.records if record.exc_info]
    assert {"logged with a stack": len(logged), "left to the server": db.order("crash")} == {
        "logged with a stack": 2,
        "left to the server": [],
    }, "each of two errors is logged once"
    words, others = (
        set(re.findall(r"[\w-]{6,}", f"{r.text} {r.headers}")) for r in (crashed, again)
    )
    ids = sorted(words - others)
    assert any(each in logged[0] for each in ids), (
        f"its log entry lacks the id that the reply has: {ids}"
        if ids
        else "the replies have no id, or both have the same"
    )


async def test_raise_never_return_errors(app, client, db):
    """A client who is told 409 has no order."""
    await db.add(app.Product(sku="tea", left=1))
    order = {"sku": "tea", "email": "bob@shop.example", "card": "4000123456789010"}

    stored = await client.post("/orders", json=order)
    sold_out = await client.post("/orders", json=order)

    assert statuses(stored=stored, sold_out=sold_out) | {"orders": await db.count(app.Order)} == {
        "stored": 201,
        "sold_out": 409,
        "orders": 1,
    }, "the one order is that of the 201"
