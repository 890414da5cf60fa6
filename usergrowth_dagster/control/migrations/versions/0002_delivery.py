"""Delivery: rate limits, suppressions, receipts, replies, audit log, and when rows may go out."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add columns to occurrences, schedules and messages, and create the new tables."""
    _columns()
    _people()
    _answers()
    _work()


def _columns() -> None:
    op.add_column("schedule", sa.Column("max_cost", sa.Float()))
    op.add_column("template", sa.Column("subject", sa.Text()))
    op.add_column("occurrence", sa.Column("sequence", sa.Integer()))
    op.add_column("occurrence", sa.Column("audience_date", sa.Date()))
    op.add_column("occurrence", sa.Column("contact", sa.JSON()))
    op.add_column("occurrence", sa.Column("subject", sa.Text()))
    op.add_column("message", sa.Column("zone", sa.String(length=96)))
    op.add_column("message", sa.Column("user_hash", sa.LargeBinary()))
    op.add_column("message", sa.Column("sent_time", TIME))
    op.add_column("message", sa.Column("final_time", TIME))
    sent: dict[str, Any] = {
        "sqlite_where": sa.text("sent_time is not null"),
        "postgresql_where": sa.text("sent_time is not null"),
    }
    op.create_index("ix_message_sent_time", "message", ["sent_time"], **sent)
    op.create_index("ix_message_user_id", "message", ["user_id"])


def _people() -> None:
    op.create_table(
        "suppression",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("scope", sa.String(length=64), nullable=False),
        sa.Column("phone_hash", sa.LargeBinary(), nullable=True),
        sa.Column("user_hash", sa.LargeBinary(), nullable=True),
        sa.Column("phone_number", sa.LargeBinary(), nullable=True),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("created_time", TIME, nullable=False),
        sa.Column("lifted_time", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suppression")),
    )
    in_force: dict[str, Any] = {
        "sqlite_where": sa.text("lifted_time is null"),
        "postgresql_where": sa.text("lifted_time is null"),
    }
    for column in ("phone_hash", "user_hash"):
        op.create_index(
            f"ix_suppression_{column}",
            "suppression",
            [column, "channel", "scope"],
            unique=True,
            **in_force,
        )
    op.create_table(
        "audit",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("time", TIME, nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )


def _answers() -> None:
    op.create_table(
        "receipt",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("gateway", sa.String(length=32), nullable=False),
        sa.Column("out_id", sa.String(length=256), nullable=True),
        sa.Column("request_id", sa.String(length=128), nullable=True),
        sa.Column("phone_hash", sa.LargeBinary(), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("code", sa.String(length=128), nullable=False),
        sa.Column("report_time", TIME, nullable=True),
        sa.Column("received_time", TIME, nullable=False),
        sa.Column("row_id", BIG, nullable=True),
        sa.Column("batch_id", BIG, nullable=True),
        sa.Column("message_id", BIG, nullable=True),
        sa.Column("pending", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_receipt")),
        sa.UniqueConstraint("digest", name=op.f("uq_receipt_digest")),
    )
    pending: dict[str, Any] = {
        "sqlite_where": sa.text("pending"),
        "postgresql_where": sa.text("pending"),
    }
    op.create_index("ix_receipt_pending", "receipt", ["id"], **pending)
    op.create_index("ix_receipt_message_id", "receipt", ["message_id"])
    op.create_table(
        "reply",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("gateway", sa.String(length=32), nullable=False),
        sa.Column("phone_hash", sa.LargeBinary(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.String(length=64), nullable=True),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("send_time", TIME, nullable=True),
        sa.Column("received_time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reply")),
        sa.UniqueConstraint("digest", name=op.f("uq_reply_digest")),
    )
    op.create_index("ix_reply_phone_hash", "reply", ["phone_hash"])


def _work() -> None:
    op.create_table(
        "token_bucket",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("tokens", sa.Float(), nullable=False),
        sa.Column("updated_time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_token_bucket")),
    )
