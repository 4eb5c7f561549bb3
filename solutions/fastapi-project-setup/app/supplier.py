"""The supplier, who knows the prices."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from httpx2 import AsyncBaseTransport, AsyncClient

Price = Callable[[str], Awaitable[int]]


@asynccontextmanager
async def open_supplier(url: str, transport: AsyncBaseTransport | None) -> AsyncIterator[Price]:
    """A function that asks the supplier for the price of a product, in cents."""
    async with AsyncClient(base_url=url, transport=transport) as http:

        async def price(sku: str) -> int:
            reply = await http.get(f"/prices/{sku}")
            return int(reply.raise_for_status().json()["cents"])

        yield price
