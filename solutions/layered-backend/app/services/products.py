"""What the shop has."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from ..core.errors import NotFoundError
from ..models import Product
from ..repositories.products import ProductRepository


class ProductService:
    def __init__(self, session: AsyncSession) -> None:
        self.products = ProductRepository(session)

    async def list_in_stock(self, limit: int) -> Sequence[Product]:
        """Products that can be ordered."""
        return await self.products.list_in_stock(limit)

    async def find(self, sku: str) -> Product:
        """The product. Raises NotFoundError."""
        product = await self.products.find(sku)
        if product is None:
            raise NotFoundError(f"product {sku}")
        return product
