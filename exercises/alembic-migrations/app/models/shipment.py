"""What is on its way; only the warehouse uses it."""

from sqlalchemy import CheckConstraint, Enum, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base


class Shipment(Base):
    __tablename__ = "shipments"
    __table_args__ = (CheckConstraint("parcels > 0", name="some_parcels"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"))
    carrier: Mapped[str] = mapped_column(Enum("bike", "van", "drone", name="carrier"))
    parcels: Mapped[int] = mapped_column(server_default="1")
