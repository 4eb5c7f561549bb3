"""Products over HTTP."""

from .base import Output


class ProductOut(Output):
    sku: str
    price: int
    in_stock: int
