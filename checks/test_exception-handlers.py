import logging
import re

from pydantic import TypeAdapter

PROBLEM = "application/problem+json"
CARD = "4000-1234-5678-9010"


def codes(*replies):
    return [reply.status_code for reply in replies]


def shape(*replies):
    return [
        *codes(*replies),
        *{r.headers.get("content-type", "").partition(";")[0] for r in replies},
    ]


def document(reply):
    return reply.json() if "json" in reply.headers.get("content-type", "") else {}


async def test_map_one_base_error(app, client, db):
    """Every error of the shop is answered with its own status, the subclass of a subclass too."""
    await db.add(
        app.Product(sku="tea", left=1),
        app.Product(sku="jam", left=0),
        app.Order(id=7, sku="tea", email="ann@shop.example", payment="p-7", cancelled=True),
    )

    order = {"email": "bob@shop.example", "card": "4000123456789010"}
    stored = await client.post("/orders", json=order | {"sku": "tea"})
    sold_out = await client.post("/orders", json=order | {"sku": "jam"})
    unknown = await client.post("/orders", json=order | {"sku": "rum"})
    closed = await client.post("/orders/7/cancel")

    assert [*codes(stored, sold_out, unknown, closed), *db.order("crash")] == [
        201,
        409,
        404,
        409,
    ], "an error went unanswered"


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

    assert own == {"printed": 200, "refused": 403}, "the shop's refusal went by another name"
    assert min(inner.values()) >= 500, f"a fault inside was blamed on the client: {inner}"


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

    assert (shape(sold_out), document(sold_out).get("status")) == ([409, PROBLEM], 409), (
        "no problem document"
    )
    assert "p-7" not in closed.text, "the note for the log went to the client"
    kinds = [document(reply).get("type") for reply in (sold_out, again, closed)]
    assert (kinds[0] == kinds[1], kinds[1] == kinds[2]) == (True, False), f"types are {kinds}"


async def test_catch_the_routers_errors_too(client):
    """Router and dependencies answer in the same shape, and keep their status and headers."""
    no_page = await client.get("/nowhere")
    no_method = await client.delete("/orders")
    no_desk = await client.get("/orders/7/label")

    assert {*no_method.headers, *no_desk.headers} >= {"allow", "www-authenticate"}, "lost headers"
    assert shape(no_page, no_method, no_desk) == [404, 405, 401, PROBLEM], "another shape"


async def test_never_echo_input(client, caplog):
    """A 422 names the field that is wrong, and repeats no value, in the reply or in the log."""
    caplog.set_level(logging.DEBUG)

    order = {"sku": "tea", "card": CARD}
    no_email = await client.post("/orders", json=order)
    bad_card = await client.post("/orders", json=order | {"email": "bob@shop.example"})

    assert CARD not in no_email.text + bad_card.text, "the reply repeats the card number"
    assert CARD not in caplog.text + str([vars(record) for record in caplog.records]), (
        "the log has the card number"
    )
    assert ["email" in no_email.text, *shape(no_email, bad_card)] == [True, 422, 422, PROBLEM], (
        "which field is it?"
    )


async def test_hide_unexpected_errors(app, start, db, caplog):
    """An unexpected error is a plain 500 that names its one entry in the log."""
    await db.add(app.Order(id=7, sku="tea", email="ann@shop.example", payment="p-7"))

    async def broken(order_id):
        raise RuntimeError("cannot reach labels:hunter2@10.0.0.7")

    client = await start(print_label=broken)
    from_shop = {"X-Desk": "warehouse", "Origin": "https://shop.example"}
    crashed, again = [await client.get("/orders/7/label", headers=from_shop) for _ in range(2)]

    assert crashed.headers.get("access-control-allow-origin") == "https://shop.example", "no CORS"
    assert shape(crashed) == [500, PROBLEM], "another shape"
    assert "hunter2" not in crashed.text, "the client reads the text of the exception"
    logged = [str(vars(record)) for record in caplog.records if record.exc_info]
    assert (len(logged), db.order("crash")) == (2, []), "not one log entry with a stack each"
    ids, others = (set(re.findall(r"[\w-]{6,}", f"{r.text} {r.headers}")) for r in (crashed, again))
    assert any(each in logged[0] for each in ids - others), "no id leads to the log entry"


async def test_raise_never_return_errors(app, client, db):
    """A client who is told 409 has no order."""
    await db.add(app.Product(sku="tea", left=1))
    order = {"sku": "tea", "email": "bob@shop.example", "card": "4000123456789010"}

    stored = await client.post("/orders", json=order)
    sold_out = await client.post("/orders", json=order)

    assert [*codes(stored, sold_out), await db.count(app.Order)] == [201, 409, 1], "it is stored"
