"""Call a customer's fullname their name."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


# TODO rename-never-drop-and-add: where do the names go that the customers have?
def upgrade() -> None:
    op.add_column("customers", sa.Column("name", sa.String(), nullable=False))
    op.drop_column("customers", "fullname")


def downgrade() -> None:
    op.add_column("customers", sa.Column("fullname", sa.String(), nullable=False))
    op.drop_column("customers", "name")
