"""Checks of jsonb-columns: what a reply shows is what the database holds."""

from copy import deepcopy
from typing import Any

from sqlalchemy import text

TEA = {"weight": 250, "tags": ["loose"], "origin": {"country": "India"}, "grade": "A"}


NEPAL = {"country": "Nepal"}


def tea(**changes: Any) -> dict[str, Any]:
    """The details of a tea, an object of its own, with some keys changed."""
    return deepcopy(TEA) | changes


def seen(reply: Any) -> Any:
    """The document of a good reply, else its status."""
    return reply.json() if reply.is_success else reply.status_code


async def stored(db: Any, model: type, column: str) -> list[Any]:
    """The documents in a column, by primary key."""
    return [getattr(row, column) for row in await db.rows(model)]


async def test_use_one_type_on_both_databases(client):
    """Details can be stored and compared on each database; another shape is refused."""
    added = [
        await client.post("/products", json={"sku": sku, "details": tea()})
        for sku in ("assam", "makaibari")
    ]

    assert [seen(reply) for reply in added] == [tea(), tea()], "the document came back as another"

    assortment = await client.get("/assortment")

    assert seen(assortment) == ["assam"], "the database cannot compare the documents"

    shapeless = await client.post("/products", json={"sku": "odd", "details": {"weight": "heavy"}})

    assert shapeless.status_code == 422, "details of another shape were stored"


async def test_flag_in_place_changes(app, client, db):
    """A tag that the reply shows is stored."""
    await db.add(app.Product(sku="tea", details=tea()))

    await client.post("/products/tea/tags/black")

    assert await stored(db, app.Product, "details") == [tea(tags=["loose", "black"])], (
        "the new tag is lost"
    )


async def test_replace_with_a_deep_copy(app, client, db):
    """A new origin is stored, and the revision keeps the details as they were before it."""
    await db.add(app.Product(sku="tea", details=tea()))

    await client.put("/products/tea/origin", json=NEPAL)

    assert [
        details["origin"]
        for model, column in ((app.Product, "details"), (app.Revision, "before"))
        for details in await stored(db, model, column)
    ] == [NEPAL, {"country": "India"}], "not the new origin here, the former in the revision"


async def test_track_the_top_level(app, client, db):
    """Each changed preference is stored, also one below the top level."""
    added = await client.post("/customers", json=["1 Mill Lane"])

    for changed, value in (("language", "de"), ("channels/phone", False)):
        await client.put(f"/customers/{added.text}/{changed}", json=value)

    assert await stored(db, app.Customer, "preferences") == [
        {"language": "de", "channels": {"mail": True, "phone": False}}
    ], "a changed preference is lost"


async def test_store_sql_null(client):
    """The orders without a slot are found: never had one, or gave it back."""
    slot = {"day": "2026-11-23", "hour": 9}
    _kept, freed, never = [
        await client.post("/orders", json={"slot": wish}) for wish in (slot, slot, None)
    ]
    await client.delete(f"/orders/{freed.text}/slot")

    unscheduled = await client.get("/orders/unscheduled")

    assert seen(unscheduled) == [seen(freed), seen(never)], "IS NULL misses an empty slot"


async def test_compare_as_the_right_type(app, client, db):
    """Weights are compared as numbers, and a tag is found whole and only among the tags."""
    await db.add(
        app.Product(sku="bulk", details=tea(weight=1000, tags=["loose-leaf"])),
        app.Product(sku="sample", details=tea(weight=9, tags=[], grade="loose")),
        app.Product(sku="tea", details=tea()),
        app.Product(sku="voucher", details={"tags": []}),
    )

    heavy = await client.get("/products", params={"min_weight": 250})

    assert seen(heavy) == ["bulk", "tea"], "the weights were not compared as numbers"

    loose = await client.get("/products", params={"tag": "loose"})

    assert seen(loose) == ["tea"], "not the products that have the tag"


async def test_merge_in_one_statement(app, client, db):
    """Two changes of one document at the same time are both kept, a null too."""
    await db.add(app.Product(sku="tea", details=tea()))
    tags = {
        "sqlite": """json_set(details, '$.tags', json('["bag"]'))""",
        "postgresql": """jsonb_set(details, '{tags}', '["bag"]')""",
    }[db.engine.dialect.name]

    async with db.rival(text(f"UPDATE products SET details = {tags}")):
        await client.patch("/products/tea", json={"weight": 500, "grade": None})

    assert await stored(db, app.Product, "details") == [
        tea(weight=500, grade=None, tags=["bag"])
    ], "a change is lost"
