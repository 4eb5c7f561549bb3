from sqlalchemy import exists, insert, literal, select, update


async def test_link_by_relationship_or_flush_first(app, client, db):
    """Every line of a basket is stored, and belongs to its order."""
    await db.add(app.Voucher(code="v"))

    stored = await client.post(
        "/orders", json={"customer": "ada", "skus": ["tea", "cup"], "voucher": "v"}
    )
    [order] = [order.id for order in await db.rows(app.Order)] or [None]
    lines = [(line.sku, line.order_id) for line in await db.rows(app.Line)]

    linked = [("tea", order), ("cup", order)]
    assert (stored.status_code, lines) == (201, linked), "the lines have lost their order"


async def test_save_all_or_nothing(app, client, db):
    """A basket is stored with its lines and its voucher spent, or not at all."""
    basket = {"customer": "ada", "skus": ["tea"], "voucher": "v"}

    refused = await client.post("/orders", json=basket)
    left_behind = await db.count(app.Order), await db.count(app.Line)
    await db.add(app.Voucher(code="v"))
    stored = await client.post("/orders", json=basket)

    seen = refused.status_code, left_behind, stored.status_code, await db.count(app.Voucher)
    assert seen == (409, (0, 0), 201, 0), "a refused basket left an order and its line behind"


async def test_isolate_each_item_in_a_savepoint(app, client, db):
    """A parcel that cannot be booked is reported and leaves nothing; the others are stored."""
    await db.add(app.Product(sku="tea"), app.Parcel(code="old"))
    parcels = [
        {"code": "half", "skus": ["tea", "unknown"]},
        {"code": "first", "skus": ["tea"]},
        {"code": "old", "skus": ["tea"]},
        {"code": "last", "skus": ["tea"]},
    ]

    booked = await client.post("/deliveries?truck=7", json=parcels)
    report = booked.json() if booked.is_success else booked.status_code
    codes = [parcel.code for parcel in await db.rows(app.Parcel)]
    lines = await db.count(app.Line)

    assert (report, codes, lines, await db.count(app.Delivery)) == (
        {"refused": ["half", "old"]},
        ["first", "last", "old"],
        2,
        1,
    ), "a bad parcel took good ones with it, or left half of itself"


async def test_give_the_transaction_one_owner(app, client, db):
    """A voucher is stored when, and only when, the request that asked for it commits."""
    await db.add(app.Product(sku="tea"))

    refused = await client.post("/apologies?voucher=lone&present=unknown")
    kept = await client.post("/apologies?voucher=kept&present=tea")
    async with db.session() as given_up:
        given_up.add(app.Product(sku="cup"))
        await given_up.flush()
        await app.give_voucher(given_up, "lost")
    codes = [voucher.code for voucher in await db.rows(app.Voucher)]

    seen = refused.status_code, kept.status_code, codes, await db.count(app.Product)
    assert seen == (409, 201, ["kept"], 1), "a service ended its caller's transaction"


async def test_update_in_sql(app, client, db):
    """Two sales at once count as two, and the last piece is sold once."""
    await db.add(app.Product(sku="tea", left=10), app.Product(sku="cup", left=1))
    tea, cup = app.Product.sku == "tea", app.Product.sku == "cup"
    rival = update(app.Product).where(app.Product.left >= 1).values(left=app.Product.left - 1)

    alone = await client.post("/products/tea/sales")
    async with db.rival(rival.where(tea)):
        raced = await client.post("/products/tea/sales")
    async with db.rival(rival.where(tea), after_read=True):
        read_before = await client.post("/products/tea/sales")
    async with db.rival(rival.where(cup)):
        await client.post("/products/cup/sales")
    sold_out = await client.post("/products/cup/sales")
    left = {product.sku: product.left for product in await db.rows(app.Product)}

    # Who counts versions refuses the sale that came second.
    told = [alone.status_code, raced.status_code, read_before.status_code]
    assert (told[0], left["tea"]) == (200, 8 - told.count(200)), "one of two sales was lost"
    assert (sold_out.status_code, left["cup"]) == (409, 0), "more was sold than there was"


async def test_make_retries_idempotent(app, client, db):
    """The same payment sent again is answered as before and booked once."""
    await db.add(app.Payment(key="elsewhere", customer="ada", cents=500))
    values = select(literal("raced"), literal("ada"), literal(500))
    rival = insert(app.Payment).from_select(
        ["key", "customer", "cents"], values.where(~exists().where(app.Payment.key == "raced"))
    )

    async def pay(key, cents=500):
        payment = {"customer": "ada", "cents": cents}
        reply = await client.post("/payments", json=payment, headers={"Idempotency-Key": key})
        return reply.status_code, reply.text

    paid, replayed = await pay("here"), await pay("here")
    by_another_worker = await pay("elsewhere")
    other = await pay("here", cents=7)
    async with db.rival(rival):
        raced = await pay("raced")
    booked = await db.count(app.Payment)

    statuses = [paid[0], by_another_worker[0], raced[0]]
    assert (replayed, statuses) == (paid, [201, 201, 201]), "a payment or its retry was refused"
    assert (other[0], booked) == (409, 3), "another payment passed under a used key"


async def test_skip_duplicates_in_the_insert(app, client, db):
    """An import stores what is new and counts it, whatever another import does meanwhile."""
    await db.add(app.Product(sku="old"))
    rival = insert(app.Product).from_select(
        ["sku", "left"],
        select(literal("raced"), literal(0)).where(~exists().where(app.Product.sku == "raced")),
    )
    # asyncpg sends 32,767 arguments at most; every product has two.
    many = 16_400 if db.engine.dialect.name == "postgresql" else 2
    price_list = ["old", "new", "new", *(f"sku {number}" for number in range(many))]

    imported = await client.post("/products", json=price_list)
    async with db.rival(rival):
        raced = await client.post("/products", json=["raced", "late"])
    empty = await client.post("/products", json=[])
    stored = {product.sku for product in await db.rows(app.Product)}

    report = imported.json() if imported.is_success else imported.status_code
    assert report == {"inserted": 1 + many}, "the duplicates were not skipped, or were counted"
    assert (raced.status_code, {"raced", "late"} <= stored) == (200, True), "a racing import failed"
    assert (empty.status_code < 500, len(stored)) == (True, 4 + many), "an empty list crashed"
