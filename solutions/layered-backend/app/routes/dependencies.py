"""The services that routes ask for."""

from typing import Annotated

from fastapi import Depends

from ..core.database import SessionDep
from ..services.orders import OrderService
from ..services.payments import PaymentService
from ..services.products import ProductService


async def product_service(session: SessionDep) -> ProductService:
    return ProductService(session)


ProductsDep = Annotated[ProductService, Depends(product_service)]


async def order_service(session: SessionDep) -> OrderService:
    return OrderService(session)


OrdersDep = Annotated[OrderService, Depends(order_service)]


async def payment_service(session: SessionDep, orders: OrdersDep) -> PaymentService:
    return PaymentService(session, orders)


PaymentsDep = Annotated[PaymentService, Depends(payment_service)]
