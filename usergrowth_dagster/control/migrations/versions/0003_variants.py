"""Several texts of one campaign, by message, occurrence and schedule; an index by person."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add two columns, a table and an index; what was planned before has one text and stays."""
    op.add_column("message", sa.Column("variant", sa.String(length=64)))
    op.add_column("occurrence", sa.Column("variants", sa.JSON()))
    op.create_table(
        "schedule_variant",
        sa.Column("schedule_id", BIG, nullable=False),
        sa.Column("template_id", BIG, nullable=False),
        sa.ForeignKeyConstraint(
            ["schedule_id"], ["schedule.id"], name=op.f("fk_schedule_variant_schedule_id")
        ),
        sa.ForeignKeyConstraint(
            ["template_id"], ["template.id"], name=op.f("fk_schedule_variant_template_id")
        ),
        sa.PrimaryKeyConstraint("schedule_id", "template_id", name=op.f("pk_schedule_variant")),
    )
    op.create_index("ix_schedule_variant_template_id", "schedule_variant", ["template_id"])
    # databases made while 0002 had this index too are in use
    op.create_index("ix_message_user_hash", "message", ["user_hash"], if_not_exists=True)
