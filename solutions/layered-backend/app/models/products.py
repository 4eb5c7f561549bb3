"""What the shop sells."""

from sqlalchemy import CheckConstraint, String
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base


class Product(Base):
    __tablename__ = "products"
    __table_args__ = (CheckConstraint("in_stock >= 0", name="in_stock"),)

    sku: Mapped[str] = mapped_column(String(40), primary_key=True)
    price: Mapped[int]
    in_stock: Mapped[int]
