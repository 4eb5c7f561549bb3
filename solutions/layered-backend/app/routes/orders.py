"""Orders and payments over HTTP."""

from collections import Counter
from typing import Annotated

from fastapi import APIRouter, Path, Response

from ..models import Order, Payment
from ..schemas.orders import OrderIn, OrderOut, PaymentIn, PaymentOut
from .dependencies import OrdersDep, PaymentsDep

router = APIRouter(prefix="/orders", tags=["orders"])
OrderId = Annotated[int, Path(ge=1, lt=2**31)]


@router.post("", status_code=201, response_model=OrderOut)
async def place_order(new: OrderIn, orders: OrdersDep, response: Response) -> Order:
    wanted = Counter[str]()
    for line in new.lines:
        wanted[line.sku] += line.count
    order = await orders.place(new.customer, wanted)
    response.headers["Location"] = f"/orders/{order.id}"
    return order


@router.get("/{order_id}", response_model=OrderOut)
async def show_order(order_id: OrderId, orders: OrdersDep) -> Order:
    return await orders.find(order_id)


@router.post("/{order_id}/payment", status_code=201, response_model=PaymentOut)
async def pay_order(order_id: OrderId, new: PaymentIn, payments: PaymentsDep) -> Payment:
    return await payments.pay(order_id, new.card.get_secret_value())
