"""Orders, with what belongs to them, in the database."""

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from ..models import Order, Payment, Shipment


class OrderRepository:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def find(self, order_id: int) -> Order | None:
        """The order with its lines; None where there is none."""
        return await self.session.get(Order, order_id, options=[selectinload(Order.lines)])

    async def add(self, order: Order) -> None:
        """Stores an order with its lines; its id is known then."""
        self.session.add(order)
        await self.session.flush()

    async def add_shipment(self, order: Order) -> None:
        """Stores what the warehouse has to pack."""
        self.session.add(Shipment(order_id=order.id))
        await self.session.flush()

    async def add_payment(self, payment: Payment) -> None:
        """Stores a payment. IntegrityError where the order has one."""
        self.session.add(payment)
        await self.session.flush()
