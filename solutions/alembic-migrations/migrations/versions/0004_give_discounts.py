"""Give discounts, never more than the total."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("orders") as orders:
        orders.add_column(sa.Column("discount", sa.Integer(), server_default="0", nullable=False))
        orders.create_check_constraint(op.f("ck_orders_discount_within_total"), "discount <= total")


def downgrade() -> None:
    with op.batch_alter_table("orders") as orders:
        orders.drop_constraint(op.f("ck_orders_discount_within_total"), type_="check")
        orders.drop_column("discount")
