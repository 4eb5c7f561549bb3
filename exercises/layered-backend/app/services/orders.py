"""How an order is placed."""

import logging
from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncSession

from ..core.errors import NotFoundError, OutOfStockError
from ..models import Order, OrderLine
from ..repositories.orders import OrderRepository
from ..repositories.products import ProductRepository

logger = logging.getLogger(__name__)


class OrderService:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session
        self.orders = OrderRepository(session)
        self.products = ProductRepository(session)

    async def find(self, order_id: int) -> Order:
        """The order with its lines. Raises NotFoundError."""
        order = await self.orders.find(order_id)
        if order is None:
            raise NotFoundError(f"order {order_id}")
        return order

    async def place(self, customer: str, wanted: Mapping[str, int]) -> Order:
        """Takes the stock and stores the order. Raises NotFoundError, OutOfStockError."""
        lines = [await self.take(sku, count) for sku, count in sorted(wanted.items())]
        total = sum(line.count * line.price for line in lines)
        order = Order(customer=customer, total=total, lines=lines)
        await self.orders.add(order)
        # TODO store-an-order-whole: what does the customer wait for if this fails?
        try:
            async with self.session.begin_nested():
                await self.orders.add_shipment(order)
        except Exception:
            logger.exception("order %s has no shipment yet", order.id)
        logger.info("order %s is placed", order.id)
        return order

    async def take(self, sku: str, count: int) -> OrderLine:
        """A line of an order whose stock is taken. Raises NotFoundError, OutOfStockError."""
        product = await self.products.find(sku)
        if product is None:
            raise NotFoundError(f"product {sku}")
        if not await self.products.take(sku, count):
            raise OutOfStockError(f"product {sku}")
        return OrderLine(sku=sku, count=count, price=product.price)
