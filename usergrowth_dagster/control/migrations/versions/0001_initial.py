"""Control records and the send ledger."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create every table."""
    _control()
    _ledger()
    _number_messages()


def _number_messages() -> None:
    """Start the message ids at a random place.

    They are the providers' OutIds: a new database must not use those of an earlier one again, or
    a look-up would find an old message. 22 random bits above 31 stay below 2**53, so that JSON
    readers that keep numbers as doubles see them whole.
    """
    start = (secrets.randbelow(2**22 - 1) + 1) << 31
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"insert into sqlite_sequence (name, seq) values ('message', {start})")
    else:
        op.execute(f"alter sequence message_id_seq restart with {start + 1}")


def _control() -> None:
    op.create_table(
        "campaign",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=30), nullable=False),
        sa.Column("remark", sa.Text(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("spec_hash", sa.String(length=64), nullable=False),
        sa.Column("created_time", TIME, nullable=False),
        sa.Column("updated_time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaign")),
        sa.UniqueConstraint("name", name=op.f("uq_campaign_name")),
    )
    op.create_table(
        "history",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("record_id", BIG, nullable=False),
        sa.Column("time", TIME, nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("from", sa.String(length=32), nullable=True),
        sa.Column("to", sa.String(length=32), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_history")),
    )
    op.create_index("ix_history_kind_record_id", "history", ["kind", "record_id"], unique=False)
    op.create_table(
        "meta",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_meta")),
    )
    op.create_table(
        "signature",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_time", TIME, nullable=False),
        sa.Column("updated_time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signature")),
        sa.UniqueConstraint("name", name=op.f("uq_signature_name")),
    )
    op.create_table(
        "audience_group",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("remark", sa.Text(), nullable=False),
        sa.Column("source", sa.SmallInteger(), nullable=False),
        sa.Column("phone_number", sa.Boolean(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("uri", sa.Text(), nullable=True),
        sa.Column("column", sa.Text(), nullable=True),
        sa.Column("project", sa.Text(), nullable=True),
        sa.Column("table", sa.Text(), nullable=True),
        sa.Column("filter", sa.Text(), nullable=True),
        sa.Column("algorithm", sa.String(length=32), nullable=True),
        sa.Column("inference_job_id", BIG, nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("campaign_id", BIG, nullable=False),
        sa.Column("created_time", TIME, nullable=False),
        sa.Column("updated_time", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name=op.f("fk_audience_group_campaign_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audience_group")),
        sa.UniqueConstraint("name", name=op.f("uq_audience_group_name")),
    )
    op.create_index(
        op.f("ix_audience_group_inference_job_id"),
        "audience_group",
        ["inference_job_id"],
        unique=False,
    )
    op.create_table(
        "template",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("template_code", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("type", sa.SmallInteger(), nullable=False),
        sa.Column("signature_id", BIG, nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_time", TIME, nullable=False),
        sa.Column("updated_time", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["signature_id"], ["signature.id"], name=op.f("fk_template_signature_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_template")),
        sa.UniqueConstraint("name", name=op.f("uq_template_name")),
        sa.UniqueConstraint("template_code", name=op.f("uq_template_template_code")),
    )
    op.create_table(
        "training_job",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("remark", sa.Text(), nullable=False),
        sa.Column("algorithm", sa.String(length=32), nullable=False),
        sa.Column("campaign_id", BIG, nullable=False),
        sa.Column("data_path", sa.Text(), nullable=False),
        sa.Column("user_config", sa.JSON(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("has_model_info", sa.Boolean(), nullable=False),
        sa.Column("training_schedule_id", BIG, nullable=True),
        sa.Column("created_time", TIME, nullable=False),
        sa.Column("updated_time", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name=op.f("fk_training_job_campaign_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_job")),
        sa.UniqueConstraint("name", name=op.f("uq_training_job_name")),
    )
    op.create_table(
        "inference_job",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("remark", sa.Text(), nullable=False),
        sa.Column("algorithm", sa.String(length=32), nullable=False),
        sa.Column("campaign_id", BIG, nullable=False),
        sa.Column("execution_date", sa.Date(), nullable=False),
        sa.Column("data_path", sa.Text(), nullable=False),
        sa.Column("target_path", sa.Text(), nullable=False),
        sa.Column("training_job_id", BIG, nullable=False),
        sa.Column("user_config", sa.JSON(), nullable=False),
        sa.Column("group_id", BIG, nullable=False),
        sa.Column("target_group_id", BIG, nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("created_time", TIME, nullable=False),
        sa.Column("updated_time", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name=op.f("fk_inference_job_campaign_id")
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["audience_group.id"], name=op.f("fk_inference_job_group_id")
        ),
        sa.ForeignKeyConstraint(
            ["target_group_id"],
            ["audience_group.id"],
            name=op.f("fk_inference_job_target_group_id"),
        ),
        sa.ForeignKeyConstraint(
            ["training_job_id"], ["training_job.id"], name=op.f("fk_inference_job_training_job_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inference_job")),
        sa.UniqueConstraint("name", name=op.f("uq_inference_job_name")),
    )
    op.create_index(
        op.f("ix_inference_job_execution_date"), "inference_job", ["execution_date"], unique=False
    )
    op.create_table(
        "schedule",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=30), nullable=False),
        sa.Column("campaign_id", BIG, nullable=False),
        sa.Column("group_id", BIG, nullable=True),
        sa.Column("signature_id", BIG, nullable=False),
        sa.Column("template_id", BIG, nullable=False),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("execute_time", TIME, nullable=True),
        sa.Column("end_time", TIME, nullable=True),
        sa.Column("repeat_cycle", sa.Integer(), nullable=False),
        sa.Column("repeat_cycle_unit", sa.SmallInteger(), nullable=False),
        sa.Column("repeat_times", sa.Integer(), nullable=False),
        sa.Column("ai_send_start_date", sa.Date(), nullable=True),
        sa.Column("ai_send_end_date", sa.Date(), nullable=True),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("created_time", TIME, nullable=False),
        sa.Column("updated_time", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name=op.f("fk_schedule_campaign_id")
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["audience_group.id"], name=op.f("fk_schedule_group_id")
        ),
        sa.ForeignKeyConstraint(
            ["signature_id"], ["signature.id"], name=op.f("fk_schedule_signature_id")
        ),
        sa.ForeignKeyConstraint(
            ["template_id"], ["template.id"], name=op.f("fk_schedule_template_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule")),
        sa.UniqueConstraint("name", name=op.f("uq_schedule_name")),
    )


def _ledger() -> None:
    op.create_table(
        "occurrence",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("schedule_id", BIG, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("task_id", sa.String(length=200), nullable=False),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("due", TIME, nullable=False),
        sa.Column("send_by", TIME, nullable=False),
        sa.Column("signature", sa.String(length=64), nullable=False),
        sa.Column("template_code", sa.String(length=64), nullable=False),
        sa.Column("template_type", sa.SmallInteger(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("price", sa.Float(), nullable=False),
        sa.Column("currency", sa.String(length=8), nullable=False),
        sa.Column("created_time", TIME, nullable=False),
        sa.Column("updated_time", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["schedule_id"], ["schedule.id"], name=op.f("fk_occurrence_schedule_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_occurrence")),
        sa.UniqueConstraint("schedule_id", "name", name=op.f("uq_occurrence_schedule_id_name")),
    )
    op.create_index(op.f("ix_occurrence_state"), "occurrence", ["state"], unique=False)
    op.create_index(op.f("ix_occurrence_task_id"), "occurrence", ["task_id"], unique=False)
    op.create_table(
        "batch",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("occurrence_id", BIG, nullable=False),
        sa.Column("gateway", sa.String(length=32), nullable=False),
        sa.Column("worker", sa.String(length=128), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("submitted_time", TIME, nullable=False),
        sa.Column("answered_time", TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["occurrence_id"], ["occurrence.id"], name=op.f("fk_batch_occurrence_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch")),
    )
    op.create_index("ix_batch_occurrence_id", "batch", ["occurrence_id"], unique=False)
    op.create_table(
        "message",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("occurrence_id", BIG, nullable=False),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=True),
        sa.Column("phone_number", sa.LargeBinary(), nullable=True),
        sa.Column("phone_hash", sa.LargeBinary(), nullable=True),
        sa.Column("template_params", sa.Text(), nullable=False),
        sa.Column("segments", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column("error_code", sa.String(length=128), nullable=True),
        sa.Column("request_id", sa.String(length=128), nullable=True),
        sa.Column("batch_id", BIG, nullable=True),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("not_before", TIME, nullable=True),
        sa.Column("retry_at", TIME, nullable=True),
        sa.Column("claimed_by", sa.String(length=128), nullable=True),
        sa.Column("lease_until", TIME, nullable=True),
        sa.Column("updated_time", TIME, nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_message_batch_id")),
        sa.ForeignKeyConstraint(
            ["occurrence_id"], ["occurrence.id"], name=op.f("fk_message_occurrence_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_message")),
        sa.UniqueConstraint(
            "occurrence_id",
            "channel",
            "user_id",
            name=op.f("uq_message_occurrence_id_channel_user_id"),
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_message_occurrence_id_state", "message", ["occurrence_id", "state", "id"], unique=False
    )
    op.create_index("ix_message_phone_hash", "message", ["phone_hash"], unique=False)
    op.create_index(
        "ix_message_request_id",
        "message",
        ["request_id"],
        unique=False,
        sqlite_where=sa.text("request_id is not null"),
        postgresql_where=sa.text("request_id is not null"),
    )
    for name, column, where in (
        ("ix_message_lease_until", "lease_until", sa.text("lease_until is not null")),
        ("ix_message_in_doubt", "id", sa.text("state = 'in_doubt'")),
    ):
        op.create_index(name, "message", [column], sqlite_where=where, postgresql_where=where)
