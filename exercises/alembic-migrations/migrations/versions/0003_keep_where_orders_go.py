"""Keep where an order goes: customers move."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    # TODO backfill-before-not-null: what do the orders have here that exist already?
    op.add_column("orders", sa.Column("ship_to", sa.String(), nullable=False))


def downgrade() -> None:
    op.drop_column("orders", "ship_to")
