"""Entries of providers' posts that could not be read, and the numbers that replies came from."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add a table and a column; replies that were kept before have no number of their own."""
    op.add_column("reply", sa.Column("phone_number", sa.LargeBinary()))
    op.create_table(
        "unread",
        sa.Column("id", BIG, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("gateway", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("why", sa.String(length=300), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("phone_hash", sa.LargeBinary()),
        sa.Column("phone_number", sa.LargeBinary()),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("received_time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unread")),
        sa.UniqueConstraint("digest", name=op.f("uq_unread_digest")),
    )
    op.create_index(op.f("ix_unread_phone_hash"), "unread", ["phone_hash"])
