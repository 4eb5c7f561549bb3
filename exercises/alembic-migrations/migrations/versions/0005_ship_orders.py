"""Ship orders."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    # TODO match-the-models: what do the models say of a shipment that stands nowhere here?
    op.create_table(
        "shipments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("order_id", sa.Integer(), nullable=False),
        sa.Column("carrier", sa.Enum("bike", "van", "drone", name="carrier"), nullable=False),
        sa.Column("parcels", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["order_id"],
            ["orders.id"],
            name=op.f("fk_shipments_order_id_orders"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shipments")),
    )


def downgrade() -> None:
    op.drop_table("shipments")
    sa.Enum(name="carrier").drop(op.get_bind())
