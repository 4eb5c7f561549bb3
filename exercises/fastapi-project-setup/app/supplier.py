"""The supplier, who knows the prices."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from httpx2 import AsyncBaseTransport, AsyncClient

Price = Callable[[str], Awaitable[int]]


# TODO share-one-http-client: how many connections do a hundred prices open?
@asynccontextmanager
async def open_supplier(url: str, transport: AsyncBaseTransport | None) -> AsyncIterator[Price]:
    """A function that asks the supplier for the price of a product, in cents."""

    async def price(sku: str) -> int:
        async with AsyncClient(base_url=url, transport=transport) as http:
            reply = await http.get(f"/prices/{sku}")
        return int(reply.raise_for_status().json()["cents"])

    yield price
