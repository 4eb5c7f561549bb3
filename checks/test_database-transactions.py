import pytest
from sqlalchemy import exists, insert, literal, select, update


@pytest.mark.on_postgresql_too("it enforces foreign keys by itself")
async def test_link_by_relationship_or_flush_first(app, client, db):
    """Every line of a basket is stored, and belongs to its order."""
    await db.add(app.Voucher(code="v"))

    stored = await client.post(
        "/orders", json={"customer": "ada", "skus": ["tea", "cup"], "voucher": "v"}
    )
    orders = {order.id: "its order" for order in await db.rows(app.Order)}
    lines = {line.sku: orders.get(line.order_id, "nobody's") for line in await db.rows(app.Line)}

    seen = {"told": stored.status_code, "lines": lines}
    linked = {"tea": "its order", "cup": "its order"}
    assert seen == {"told": 201, "lines": linked}, "every line must be stored and know its order"


async def test_save_all_or_nothing(app, client, db):
    """A basket is stored with its lines and its voucher spent, or not at all."""
    await db.add(app.Voucher(code="v"))
    basket = {"customer": "ada", "skus": ["tea"], "voucher": "v"}

    stored = await client.post("/orders", json=basket)
    voucher_spent = await client.post("/orders", json=basket)
    rows = {table.__tablename__: await db.count(table) for table in (app.Order, app.Line)}

    seen = {"told": [stored.status_code, voucher_spent.status_code]} | rows
    meant = {"told": [201, 409], "orders": 1, "lines": 1}
    assert seen == meant, "a 201 must leave the whole basket, a 409 nothing"


@pytest.mark.on_postgresql_too("an error aborts its whole transaction")
async def test_isolate_each_item_in_a_savepoint(app, client, db):
    """A parcel that cannot be booked is reported and leaves nothing; the others are stored."""
    await db.add(app.Product(sku="tea"), app.Parcel(code="old"))
    bad, good = {"code": "bad", "skus": ["unknown"]}, {"code": "good", "skus": ["tea"]}
    old = {"code": "old", "skus": []}

    booked = await client.post("/deliveries?truck=7", json=[bad, good, old])
    told = booked.json() if booked.is_success else booked.status_code
    rows = {"parcels": [parcel.code for parcel in await db.rows(app.Parcel)]}
    rows |= {"lines": await db.count(app.Line), "deliveries": await db.count(app.Delivery)}

    meant = {"parcels": ["good", "old"], "lines": 1, "deliveries": 1}
    meant = {"told": {"refused": ["bad", "old"]}, **meant}
    assert {"told": told, **rows} == meant, "only the bad parcels must be refused and missing"


async def test_give_the_transaction_one_owner(app, client, db):
    """A voucher is stored when, and only when, the request that asked for it commits."""
    await db.add(app.Product(sku="tea"))

    kept = await client.post("/apologies?voucher=kept&present=tea")
    refused = await client.post("/apologies?voucher=lost&present=unknown")
    vouchers = [voucher.code for voucher in await db.rows(app.Voucher)]
    seen = {"told": [kept.status_code, refused.status_code], "vouchers": vouchers}
    meant = {"told": [201, 409], "vouchers": ["kept"]}
    assert seen == meant, "a 201 must leave its voucher, a 409 none"

    given_before = await client.post("/apologies?voucher=kept&present=tea")
    assert given_before.status_code == 409, "give_voucher must raise IntegrityError by itself"

    async with db.session() as given_up:
        given_up.add(app.Product(sku="cup"))
        await given_up.flush()
        await app.give_voucher(given_up, "given up")
    products = [product.sku for product in await db.rows(app.Product)]
    assert products == ["tea"], "the caller never committed its cup"


@pytest.mark.on_postgresql_too("it locks rows, SQLite the file")
async def test_update_in_sql(app, client, db):
    """Two sales at once count as two, and the last piece is sold once."""
    await db.add(app.Product(sku="tea", left=10), app.Product(sku="cup", left=1))
    await db.add(app.Product(sku="pot", left=0))
    tea, cup = app.Product.sku == "tea", app.Product.sku == "cup"
    rival = update(app.Product).where(app.Product.left >= 1).values(left=app.Product.left - 1)

    alone = await client.post("/products/tea/sales")
    async with db.rival(rival.where(tea)):
        raced = await client.post("/products/tea/sales")
    async with db.rival(rival.where(tea), after_read=True):
        read_before = await client.post("/products/tea/sales")
    sold_out = await client.post("/products/pot/sales")
    async with db.rival(rival.where(cup)):
        last = await client.post("/products/cup/sales")
    left = {product.sku: product.left for product in await db.rows(app.Product)}

    # Who counts versions refuses the sale that came second.
    told = [alone.status_code, raced.status_code, read_before.status_code]
    seen = {"told": told, "left of 10": left["tea"]}
    counted = {"told": [200, *told[1:]], "left of 10": 8 - told.count(200)}
    assert seen == counted, "each 200 and each of the two other sales must take one off"
    seen = {"told": [sold_out.status_code, last.status_code], "left of 1": left["cup"]}
    meant = {"told": [409, last.status_code], "left of 1": 0}
    assert seen == meant, "the last one must be sold once, and nothing where none is left"


@pytest.mark.on_postgresql_too("two writers at once are possible there")
async def test_make_retries_idempotent(app, client, db):
    """The same payment sent again is answered as before and booked once."""
    await db.add(app.Payment(key="elsewhere", customer="ada", cents=500))
    values = select(literal("raced"), literal("ada"), literal(500))
    rival = insert(app.Payment).from_select(
        ["key", "customer", "cents"], values.where(~exists().where(app.Payment.key == "raced"))
    )

    async def pay(key, customer="ada", cents=500):
        payment = {"customer": customer, "cents": cents}
        reply = await client.post("/payments", json=payment, headers={"Idempotency-Key": key})
        return f"{reply.status_code} {reply.text}"

    first, again = await pay("here"), await pay("here")
    stored_elsewhere = await pay("elsewhere")
    async with db.rival(rival):
        raced = await pay("raced")
    told = {"again": again, "elsewhere": stored_elsewhere[:3], "raced": raced[:3]}
    meant = {"again": first, "elsewhere": "201", "raced": "201"}
    assert told == meant, "a retry must be answered like the payment it repeats"

    others = [await pay("here", cents=7), await pay("here", customer="eve")]
    seen = {"told": [reply[:3] for reply in others], "booked": await db.count(app.Payment)}
    assert seen == {"told": ["409", "409"], "booked": 3}, "a key is good for one payment"


@pytest.mark.on_postgresql_too("two writers at once are possible there")
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
    products = await db.count(app.Product)
    told = imported.json() if imported.is_success else imported.status_code
    seen = {"told": told, "products": products}
    meant = {"told": {"inserted": 1 + many}, "products": 2 + many}
    assert seen == meant, "each new product must be stored and counted once"

    async with db.rival(rival):
        raced = await client.post("/products", json=["raced", "late"])
    both = select(app.Product.sku).where(app.Product.sku.in_(["late", "raced"]))
    seen = {"told": raced.status_code, "stored": sorted(await db.rows(both))}
    assert seen == {"told": 200, "stored": ["late", "raced"]}, "both imports must succeed"

    empty = await client.post("/products", json=[])
    assert empty.text == '{"inserted":0}', "an empty list must be told 0, and insert nothing"
