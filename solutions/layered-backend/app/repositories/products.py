"""Products in the database."""

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from ..models import Product


class ProductRepository:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def find(self, sku: str) -> Product | None:
        """The product; None where there is none."""
        return await self.session.get(Product, sku)

    async def list_in_stock(self, limit: int) -> Sequence[Product]:
        """Products that can be ordered, by sku."""
        in_stock = select(Product).where(Product.in_stock > 0).order_by(Product.sku)
        return (await self.session.scalars(in_stock.limit(limit))).all()

    async def take(self, sku: str, count: int) -> bool:
        """Takes so many from the stock; False where there are not enough."""
        taken = await self.session.scalar(
            update(Product)
            .where(Product.sku == sku, Product.in_stock >= count)
            .values(in_stock=Product.in_stock - count)
            .returning(Product.sku)
        )
        return taken is not None
