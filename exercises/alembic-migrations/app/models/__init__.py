"""The shop's tables."""

# TODO import-every-model: which table does alembic take for a leftover?
from .base import Base
from .customer import Customer
from .order import Order, OrderLine

__all__ = ["Base", "Customer", "Order", "OrderLine"]
