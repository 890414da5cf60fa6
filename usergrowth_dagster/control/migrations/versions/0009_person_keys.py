"""Keys of the persons of planned users."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add a table; before, only the refusals of the row's user and address were looked up."""
    op.create_table(
        "person_key",
        sa.Column("id", BIG, nullable=False),
        sa.Column("user_hash", sa.LargeBinary(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_person_key")),
        sa.UniqueConstraint("user_hash", "key_hash", name=op.f("uq_person_key_user_hash_key_hash")),
    )
    op.create_index("ix_person_key_key_hash", "person_key", ["key_hash"])
