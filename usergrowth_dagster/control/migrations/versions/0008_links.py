"""Short links of texts, and the clicks on them."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add three columns and a table; no text had a link before."""
    op.add_column("template", sa.Column("link", sa.Text()))
    op.add_column("occurrence", sa.Column("link", sa.Text()))
    op.add_column("occurrence", sa.Column("link_domain", sa.String(length=300)))
    op.create_table(
        "click",
        sa.Column("id", BIG, nullable=False),
        sa.Column("message_id", BIG, nullable=False),
        sa.Column("occurrence_id", BIG, nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("hour", MOMENT, nullable=False),
        sa.Column("time", MOMENT, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_click")),
        sa.ForeignKeyConstraint(["message_id"], ["message.id"], name=op.f("fk_click_message_id")),
        sa.ForeignKeyConstraint(
            ["occurrence_id"], ["occurrence.id"], name=op.f("fk_click_occurrence_id")
        ),
        sa.UniqueConstraint(
            "message_id", "kind", "hour", name=op.f("uq_click_message_id_kind_hour")
        ),
    )
    op.create_index("ix_click_occurrence_id", "click", ["occurrence_id", "kind"])
    op.create_index("ix_click_time", "click", ["time"])
