"""How an order is paid."""

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from ..core.errors import AlreadyPaidError
from ..models import Payment
from ..repositories.orders import OrderRepository
from .orders import OrderService


class PaymentService:
    def __init__(self, session: AsyncSession, orders: OrderService) -> None:
        self.session = session
        self.orders = orders
        self.payments = OrderRepository(session)

    async def pay(self, order_id: int, card: str) -> Payment:
        """Stores the payment of an order. Raises NotFoundError, AlreadyPaidError."""
        order = await self.orders.find(order_id)
        payment = Payment(order_id=order_id, amount=order.total, card_end=card[-4:])
        # TODO give-a-request-one-session: who ends the transaction of this request, and how often?
        try:
            await self.payments.add_payment(payment)
            await self.session.commit()
        except IntegrityError:
            await self.session.rollback()
            raise AlreadyPaidError(f"order {order_id}") from None
        order.paid = True
        return payment
