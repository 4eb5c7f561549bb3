"""Orders and payments over HTTP."""

from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints

from .base import Input, Output

Sku = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,40}$")]


class LineIn(Input):
    sku: Sku
    count: int = Field(ge=1, le=1000)


class OrderIn(Input):
    customer: str = Field(min_length=1, max_length=100, pattern=r"^[^\x00]*$")
    lines: list[LineIn] = Field(min_length=1, max_length=50)


class LineOut(Output):
    sku: str
    count: int
    price: int


class OrderOut(Output):
    id: int
    customer: str
    total: int
    paid: bool
    lines: list[LineOut]


class PaymentIn(Input):
    card: SecretStr = Field(min_length=12, max_length=19)


class PaymentOut(Output):
    id: int
    amount: int
    card_end: str
