async def test_commit_before_reply(app, client, db):
    """A client is told 201 only when its order is really stored."""
    stored = await client.post("/orders/tea")
    with db.commits_fail():
        lost = await client.post("/orders/tea?visitor=bob")

    assert (stored.status_code, await db.count(app.Order)) == (201, 1)
    assert lost.status_code == 500, "the reply left before the commit"


async def test_list_in_order(app, client, db):
    """Orders are listed as they came."""
    await db.add(app.Order(sku="tea"), app.Order(sku="milk"), app.Order(sku="rice"))

    listed = await client.get("/orders")

    assert listed.json() == ["tea", "milk", "rice"]
