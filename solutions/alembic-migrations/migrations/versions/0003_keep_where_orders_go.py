"""Keep where an order goes: customers move."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("orders", sa.Column("ship_to", sa.String(), nullable=True))
    op.execute(
        "UPDATE orders SET ship_to = "
        "(SELECT address FROM customers WHERE customers.id = orders.customer_id)"
    )
    with op.batch_alter_table("orders") as orders:
        orders.alter_column("ship_to", existing_type=sa.String(), nullable=False)


def downgrade() -> None:
    op.drop_column("orders", "ship_to")
