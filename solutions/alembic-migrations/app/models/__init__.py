"""The shop's tables."""

from .base import Base
from .customer import Customer
from .order import Order, OrderLine
from .shipment import Shipment

__all__ = ["Base", "Customer", "Order", "OrderLine", "Shipment"]
