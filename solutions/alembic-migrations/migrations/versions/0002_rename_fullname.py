"""Call a customer's fullname their name."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.alter_column("customers", "fullname", new_column_name="name", existing_type=sa.String())


def downgrade() -> None:
    op.alter_column("customers", "name", new_column_name="fullname", existing_type=sa.String())
