"""Checks of jsonb-columns: what a reply shows is what the database holds."""

from copy import deepcopy
from typing import Any

import pytest
from sqlalchemy import text

TEA = {"weight": 250, "tags": ["loose"], "origin": {"country": "India"}, "grade": "A"}
NEPAL = {"country": "Nepal"}


def tea(**changes: Any) -> dict[str, Any]:
    """The details of a tea, an object of its own, with some keys changed."""
    return deepcopy(TEA) | changes


def seen(reply: Any) -> Any:
    """The document of a good reply, else its status."""
    return reply.json() if reply.is_success else reply.status_code


def changes(details: Any) -> Any:
    """The keys of a document that are not as in TEA."""
    if not isinstance(details, dict):
        return details
    whole = dict.fromkeys(TEA, "missing") | details
    return {key: value for key, value in whole.items() if key not in TEA or value != TEA[key]}


async def stored(db: Any, model: type, column: str) -> list[Any]:
    """The documents in a column, by primary key."""
    return [getattr(row, column) for row in await db.rows(model)]


@pytest.mark.on_postgresql_too("the type is another one there")
async def test_use_one_type_on_both_databases(client):
    """Details can be stored and compared on each database; another shape is refused."""
    added = await client.post("/products", json={"sku": "assam", "details": tea()})

    assert seen(added) == tea(), "the reply should be the document that was sent"

    await client.post("/products", json={"sku": "makaibari", "details": tea()})
    assortment = await client.get("/assortment")

    assert seen(assortment) == ["assam"], "assam stands for makaibari too, with equal details"

    shapeless = await client.post("/products", json={"sku": "odd", "details": {"weight": "heavy"}})

    assert shapeless.status_code == 422, "these are no Details: the weight is not a number"


async def test_flag_in_place_changes(app, client, db):
    """A tag that the reply shows is stored."""
    await db.add(app.Product(sku="tea", details=tea()))

    tagged = await client.post("/products/tea/tags/black")

    new = {"tags": ["loose", "black"]}
    assert {
        "changed in reply": changes(seen(tagged)),
        "in row": [changes(details) for details in await stored(db, app.Product, "details")],
    } == {"changed in reply": new, "in row": [new]}, "both should have the new tag"


async def test_replace_with_a_deep_copy(app, client, db):
    """A new origin is stored, and the revision keeps the details as they were before it."""
    await db.add(app.Product(sku="tea", details=tea()))

    await client.put("/products/tea/origin", json=NEPAL)

    assert {
        "product": [changes(details) for details in await stored(db, app.Product, "details")],
        "revision": [changes(before) for before in await stored(db, app.Revision, "before")],
    } == {"product": [{"origin": NEPAL}], "revision": [{}]}, (
        "only the product should differ from before"
    )


async def test_track_the_top_level(app, client, db):
    """Each changed preference is stored, also one below the top level."""
    for method, path, body in (
        ("POST", "/customers", ["1 Mill Lane"]),
        ("PUT", "/customers/1/language", "de"),
        ("PUT", "/customers/1/channels/phone", False),
    ):
        await client.request(method, path, json=body)

    assert await stored(db, app.Customer, "preferences") == [
        {"language": "de", "channels": {"mail": True, "phone": False}}
    ], "the row should have both changed preferences"


@pytest.mark.on_postgresql_too("JSON null is another value there")
async def test_store_sql_null(client):
    """The orders without a slot are found: never had one, or gave it back."""
    slot = {"day": "2026-11-23", "hour": 9}
    _kept, freed, never = [
        await client.post("/orders", json={"slot": wish}) for wish in (slot, slot, None)
    ]
    await client.delete(f"/orders/{freed.text}/slot")

    unscheduled = await client.get("/orders/unscheduled")

    assert seen(unscheduled) == [seen(freed), seen(never)], (
        "IS NULL should find the slot that was freed, and the one that never was"
    )


@pytest.mark.on_postgresql_too("its operators are typed")
async def test_compare_as_the_right_type(app, client, db):
    """Weights are compared as numbers, and a tag is found whole and only among the tags."""
    await db.add(
        app.Product(sku="1000-g", details=tea(weight=1000)),
        app.Product(sku="250-g", details=tea(weight=250)),
        app.Product(sku="9-g", details=tea(weight=9)),
    )

    heavy = await client.get("/products", params={"min_weight": 250})

    assert seen(heavy) == ["1000-g", "250-g"], "the weights were not compared as numbers"

    alike = ["loose-leaf", "Loose_leaf", "loose_leaf_2"]
    await db.add(
        app.Product(sku="other-tags", details=tea(tags=alike)),
        app.Product(sku="tag-as-grade", details=tea(grade="loose_leaf")),
        app.Product(sku="tagged", details=tea(tags=["black", "loose_leaf"])),
    )

    found = await client.get("/products", params={"tag": "loose_leaf"})

    assert seen(found) == ["tagged"], "a tag is one whole member of the list"


@pytest.mark.on_postgresql_too("it locks rows, SQLite the file")
async def test_merge_in_one_statement(app, client, db):
    """A change of some keys, to null too, leaves all else to others, who change it meanwhile."""
    await db.add(app.Product(sku="other", details=tea()), app.Product(sku="tea", details=tea()))

    ungraded = await client.patch("/products/tea", json={"grade": None})

    other, patched = await stored(db, app.Product, "details")
    assert {
        "changed in reply": changes(seen(ungraded)),
        "in row": changes(patched),
        "in other row": changes(other),
    } == {
        "changed in reply": {"grade": None},
        "in row": {"grade": None},
        "in other row": {},
    }, "only the null, only in this row"

    tags = {
        "sqlite": """json_set(details, '$.tags', json('["bag"]'))""",
        "postgresql": """jsonb_set(CAST(details AS jsonb), '{tags}', '["bag"]')""",
    }[db.engine.dialect.name]

    async with db.rival(text(f"UPDATE products SET details = {tags} WHERE sku = 'tea'")):
        await client.patch("/products/tea", json={"weight": 500})

    _, patched = await stored(db, app.Product, "details")
    assert changes(patched) == {"weight": 500, "tags": ["bag"], "grade": None}, (
        "one of two changes is lost"
    )
