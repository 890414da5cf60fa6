"""Scores of failures alike, by occurrence, stage and cause."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add a table; what went out before does not count."""
    op.create_table(
        "failure_score",
        sa.Column("occurrence_id", BIG, nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("cause", sa.String(length=128), nullable=False),
        sa.Column("score", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("alerted_time", sa.DateTime(timezone=True)),
        sa.Column("updated_time", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["occurrence_id"], ["occurrence.id"], name=op.f("fk_failure_score_occurrence_id")
        ),
        sa.PrimaryKeyConstraint("occurrence_id", "stage", "cause", name=op.f("pk_failure_score")),
    )
