async def test_add_the_tax(client):
    """A price of 100 at 20 percent is 120."""
    taxed = await client.get("/taxed/100")

    assert taxed.json() == 120


async def test_share_the_bill(client):
    """A bill of 90 is 30 for each of three."""
    shared = await client.get("/shared/90?people=3")

    assert shared.json() == 30
