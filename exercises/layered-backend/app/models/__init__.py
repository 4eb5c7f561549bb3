"""The tables of the shop."""

from .base import Base
from .orders import Order, OrderLine, Payment, Shipment
from .products import Product

__all__ = ["Base", "Order", "OrderLine", "Payment", "Product", "Shipment"]
