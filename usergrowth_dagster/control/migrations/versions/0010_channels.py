"""Several channels in one task: the price of the other one; one message a person all the same."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add a column and a unique index; an occurrence had one channel, so every row keeps to it."""
    op.add_column("occurrence", sa.Column("other_price", sa.Float()))
    op.create_index(
        "ix_message_occurrence_id_user_id", "message", ["occurrence_id", "user_id"], unique=True
    )
