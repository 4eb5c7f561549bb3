"""What was bought."""

from sqlalchemy import CheckConstraint, Enum, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base


class Order(Base):
    __tablename__ = "orders"
    __table_args__ = (CheckConstraint("discount <= total", name="discount_within_total"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    total: Mapped[int]
    status: Mapped[str] = mapped_column(
        Enum("new", "paid", "sent", name="order_status"), server_default="new"
    )
    ship_to: Mapped[str]
    discount: Mapped[int] = mapped_column(server_default="0")


class OrderLine(Base):
    __tablename__ = "order_lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"))
    sku: Mapped[str]
