"""Runs of exports, and the rows that a destination refused."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add two tables; nothing went out as an export before."""
    op.create_table(
        "export_run",
        sa.Column("id", BIG, nullable=False),
        sa.Column("export", sa.String(length=40), nullable=False),
        sa.Column("execution_date", sa.Date(), nullable=False),
        sa.Column("task_id", sa.String(length=200), nullable=False),
        sa.Column("tasks", sa.JSON(), nullable=False),
        sa.Column("input", sa.String(length=64), nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("shown", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("manifest", sa.String(length=64), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("sent", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("started_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_time", sa.DateTime(timezone=True)),
        sa.Column("expires_time", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_export_run")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_export_run_export", "export_run", ["export", "execution_date", "task_id"])
    op.create_table(
        "export_error",
        sa.Column("id", BIG, nullable=False),
        sa.Column("run_id", BIG, nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=False),
        sa.Column("task_id", sa.String(length=200), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.String(length=300), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["export_run.id"], name=op.f("fk_export_error_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_export_error")),
    )
    op.create_index(op.f("ix_export_error_run_id"), "export_error", ["run_id"])
    op.create_index(op.f("ix_export_error_user_id"), "export_error", ["user_id"])
