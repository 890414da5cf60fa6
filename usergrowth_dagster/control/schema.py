"""Tables of the control records and of the send ledger, in one database.

Names and codes follow the PaiPlugin OpenAPI (2022-01-12) in snake case; what it calls History is
the table ``history``. Times are UTC.
"""

from datetime import datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from usergrowth_dagster.control.codes import (
    GroupSource,
    GroupStatus,
    JobStatus,
    MessageState,
    OccurrenceState,
    RepeatUnit,
    ReviewStatus,
    ScheduleStatus,
    TemplateType,
)
from usergrowth_dagster.control.columns import Code, UtcTime, Word

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


BigId = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows only for INTEGER


def _id() -> Column[int]:
    return Column("id", BigId, primary_key=True, autoincrement=True)


def _ref(name: str, table: str, *, null: bool = False) -> Column[int]:
    return Column(name, BigId, ForeignKey(f"{table}.id"), nullable=null)


def _times() -> tuple[Column[datetime], Column[datetime]]:
    return (
        Column("created_time", UtcTime, nullable=False),
        Column("updated_time", UtcTime, nullable=False),
    )


meta = Table(
    "meta",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

campaign = Table(
    "campaign",
    metadata,
    _id(),
    Column("name", String(30), nullable=False, unique=True),
    Column("remark", Text, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("spec_hash", String(64), nullable=False),
    *_times(),
)

group = Table(
    "audience_group",  # "group" is a word of SQL
    metadata,
    _id(),
    Column("name", String(200), nullable=False, unique=True),
    Column("remark", Text, nullable=False),
    Column("source", Code(GroupSource), nullable=False),
    Column("phone_number", Boolean, nullable=False),
    Column("text", Text),
    Column("uri", Text),
    Column("column", Text),
    Column("project", Text),
    Column("table", Text),
    Column("filter", Text),
    Column("algorithm", String(32)),
    Column("inference_job_id", BigId, index=True),
    Column("amount", BigInteger),
    Column("status", Code(GroupStatus), nullable=False),
    _ref("campaign_id", "campaign"),
    *_times(),
)

training_job = Table(
    "training_job",
    metadata,
    _id(),
    Column("name", String(200), nullable=False, unique=True),
    Column("remark", Text, nullable=False),
    Column("algorithm", String(32), nullable=False),
    _ref("campaign_id", "campaign"),
    Column("data_path", Text, nullable=False),
    Column("user_config", JSON, nullable=False),
    Column("status", Code(JobStatus), nullable=False),
    Column("has_model_info", Boolean, nullable=False),
    Column("training_schedule_id", BigId),
    *_times(),
)

inference_job = Table(
    "inference_job",
    metadata,
    _id(),
    Column("name", String(200), nullable=False, unique=True),  # the task id
    Column("remark", Text, nullable=False),
    Column("algorithm", String(32), nullable=False),
    _ref("campaign_id", "campaign"),
    Column("execution_date", Date, nullable=False, index=True),
    Column("data_path", Text, nullable=False),
    Column("target_path", Text, nullable=False),
    _ref("training_job_id", "training_job"),
    Column("user_config", JSON, nullable=False),  # the campaign as the task sees it
    _ref("group_id", "audience_group"),
    _ref("target_group_id", "audience_group"),
    Column("status", Code(JobStatus), nullable=False),
    *_times(),
)

signature = Table(
    "signature",
    metadata,
    _id(),
    Column("name", String(64), nullable=False, unique=True),
    Column("description", Text, nullable=False),
    Column("status", Code(ReviewStatus), nullable=False),
    Column("reason", Text),
    *_times(),
)

template = Table(
    "template",
    metadata,
    _id(),
    Column("template_code", String(64), nullable=False, unique=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("content", Text, nullable=False),
    Column("subject", Text),  # of an e-mail
    Column("link", Text),  # where the text's short link leads; null: it has none
    Column("type", Code(TemplateType), nullable=False),
    _ref("signature_id", "signature"),
    Column("status", Code(ReviewStatus), nullable=False),
    Column("reason", Text),
    *_times(),
)

schedule = Table(
    "schedule",
    metadata,
    _id(),
    Column("name", String(30), nullable=False, unique=True),
    _ref("campaign_id", "campaign"),
    _ref("group_id", "audience_group", null=True),
    _ref("signature_id", "signature"),
    _ref("template_id", "template"),
    Column("channel", String(16), nullable=False),
    Column("execute_time", UtcTime),
    Column("end_time", UtcTime),
    Column("repeat_cycle", Integer, nullable=False),
    Column("repeat_cycle_unit", Code(RepeatUnit), nullable=False),
    Column("repeat_times", Integer, nullable=False),
    Column("ai_send_start_date", Date),
    Column("ai_send_end_date", Date),
    Column("paused", Boolean, nullable=False),
    Column("max_cost", Float),  # money for all occurrences together
    Column("status", Code(ScheduleStatus), nullable=False),
    *_times(),
)

schedule_variant = Table(
    "schedule_variant",  # the further texts of a schedule, beside its template
    metadata,
    Column("schedule_id", BigId, ForeignKey("schedule.id"), primary_key=True),
    Column("template_id", BigId, ForeignKey("template.id"), primary_key=True, index=True),
)

history = Table(
    "history",
    metadata,
    _id(),
    Column("kind", String(32), nullable=False),
    Column("record_id", BigId, nullable=False),
    Column("time", UtcTime, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("from", String(32)),
    Column("to", String(32)),
    Column("note", Text, nullable=False),
    Column("code", String(64)),  # of the error that a record failed with
    Column("hint", Text),
    Index("ix_history_kind_record_id", "kind", "record_id"),
)

occurrence = Table(
    "occurrence",  # one run of a schedule for one task; holds what its messages have in common
    metadata,
    _id(),
    _ref("schedule_id", "schedule"),
    Column("name", String(200), nullable=False),
    Column("task_id", String(200), nullable=False, index=True),
    Column("channel", String(16), nullable=False),
    Column("state", Word(OccurrenceState), nullable=False, index=True),
    Column("reason", Text),
    Column("due", UtcTime, nullable=False),
    Column("send_by", UtcTime, nullable=False),
    # frozen when planned, so that a later edit cannot change a text on its way out
    Column("signature", String(64), nullable=False),
    Column("template_code", String(64), nullable=False),
    Column("template_type", Code(TemplateType), nullable=False),
    Column("content", Text, nullable=False),
    Column("price", Float, nullable=False),
    Column("other_price", Float),  # of a message on the other channel; null: no text goes by it
    Column("currency", String(8), nullable=False),
    Column("sequence", Integer),  # 0, 1, 2 … of a repeating schedule
    Column("audience_date", Date),  # execution date of the decision that its people come from
    Column("contact", JSON),  # the campaign's own contact rules
    Column("subject", Text),  # of an e-mail
    Column("variants", JSON),  # template_code, content, subject … by variant; null: one text
    Column("link", Text),  # where the short link of the text leads; null: it has none
    Column("link_domain", String(300)),  # root of the short links; null: no text has one
    *_times(),
    UniqueConstraint("schedule_id", "name"),
)

batch = Table(
    "batch",  # one call of a provider
    metadata,
    _id(),
    _ref("occurrence_id", "occurrence"),
    Column("gateway", String(32), nullable=False),
    Column("worker", String(128), nullable=False),
    Column("size", Integer, nullable=False),
    Column("submitted_time", UtcTime, nullable=False),
    Column("answered_time", UtcTime),
    Index("ix_batch_occurrence_id", "occurrence_id"),
)

message = Table(
    "message",  # one recipient of one occurrence
    metadata,
    _id(),  # also the provider's OutId
    _ref("occurrence_id", "occurrence"),
    Column("channel", String(16), nullable=False),
    Column("user_id", Text, nullable=False),
    Column("item_id", Text),
    Column("phone_number", LargeBinary),  # the channel's address, encrypted
    Column("phone_hash", LargeBinary),  # keyed hash
    Column("user_hash", LargeBinary),  # keyed hash, which outlives the id of a forgotten person
    Column("template_params", Text, nullable=False),  # JSON object
    Column("segments", SmallInteger, nullable=False),
    Column("state", Word(MessageState), nullable=False),
    Column("reason", String(64)),
    Column("error_code", String(128)),
    Column("request_id", String(128)),
    Column("batch_id", BigId, ForeignKey("batch.id")),
    Column("attempts", SmallInteger, nullable=False, default=0),
    Column("not_before", UtcTime),  # the row's own hour, on the business clock
    Column("retry_at", UtcTime),  # after a deferral, on the real clock
    Column("zone", String(96)),  # the recipient's time zone; several are joined by |
    Column("sent_time", UtcTime),  # when it was submitted, on the business clock
    Column("final_time", UtcTime),  # when the provider says that it was delivered, or not
    Column("variant", String(64)),  # which of the occurrence's texts; null: its only one
    Column("claimed_by", String(128)),
    Column("lease_until", UtcTime),  # on the real clock
    Column("updated_time", UtcTime, nullable=False),
    # the occurrence stands for (schedule, occurrence): its name is unique within the schedule
    UniqueConstraint("occurrence_id", "channel", "user_id"),
    # one message a person, whatever the channel
    Index("ix_message_occurrence_id_user_id", "occurrence_id", "user_id", unique=True),
    Index("ix_message_occurrence_id_state", "occurrence_id", "state", "id"),
    Index("ix_message_phone_hash", "phone_hash"),
    Index("ix_message_user_id", "user_id"),
    Index("ix_message_user_hash", "user_hash"),
    Index(
        "ix_message_sent_time",
        "sent_time",
        sqlite_where=text("sent_time is not null"),
        postgresql_where=text("sent_time is not null"),
    ),
    Index(
        "ix_message_request_id",
        "request_id",
        sqlite_where=text("request_id is not null"),
        postgresql_where=text("request_id is not null"),
    ),
    Index(
        "ix_message_lease_until",
        "lease_until",
        sqlite_where=text("lease_until is not null"),
        postgresql_where=text("lease_until is not null"),
    ),
    Index(
        "ix_message_in_doubt",
        "id",
        sqlite_where=text("state = 'in_doubt'"),
        postgresql_where=text("state = 'in_doubt'"),
    ),
    sqlite_autoincrement=True,
)

suppression = Table(
    "suppression",  # who may not be texted; lifted rows stay as the record of what held when
    metadata,
    _id(),
    Column("channel", String(16), nullable=False),  # "*": every channel
    Column("scope", String(64), nullable=False),  # a signature's name; "*": everywhere
    Column("phone_hash", LargeBinary),  # of the address; a row has this hash or the next, not both
    Column("user_hash", LargeBinary),  # keyed hash of the user id
    Column("phone_number", LargeBinary),  # encrypted; absent once the person is forgotten
    Column("user_id", Text),  # absent once the person is forgotten
    Column("reason", String(32), nullable=False),  # reply, import, provider, by_hand, forgotten
    Column("source", String(200), nullable=False),
    Column("created_time", UtcTime, nullable=False),
    Column("lifted_time", UtcTime),
    *(
        Index(  # one row in force for an address or user, channel and scope
            f"ix_suppression_{column}",
            column,
            "channel",
            "scope",
            unique=True,
            sqlite_where=text("lifted_time is null"),
            postgresql_where=text("lifted_time is null"),
        )
        for column in ("phone_hash", "user_hash")
    ),
)

person_key = Table(
    "person_key",  # other users and addresses of a planned user's person; keyed hashes alone
    metadata,
    _id(),
    Column("user_hash", LargeBinary, nullable=False),  # of the planned user
    Column("key_hash", LargeBinary, nullable=False),  # of another user, or of an address
    UniqueConstraint("user_hash", "key_hash"),
    Index("ix_person_key_key_hash", "key_hash"),  # for erasure
)

receipt = Table(
    "receipt",  # a delivery report as it came in
    metadata,
    _id(),
    Column("digest", LargeBinary, nullable=False, unique=True),  # the same report again
    Column("gateway", String(32), nullable=False),
    Column("out_id", String(256)),
    Column("request_id", String(128)),
    Column("phone_hash", LargeBinary),
    Column("status", String(16), nullable=False),
    Column("code", String(128), nullable=False),
    Column("report_time", UtcTime),
    Column("received_time", UtcTime, nullable=False),
    Column("row_id", BigId),  # what out_id says, where that can be a message's id
    Column("batch_id", BigId),  # of providers that take one id of ours for a batch
    Column("message_id", BigId, index=True),  # the message that it is about, once known
    Column("pending", Boolean, nullable=False),  # has still to be applied
    Index(
        "ix_receipt_pending",
        "id",
        sqlite_where=text("pending"),
        postgresql_where=text("pending"),
    ),
)

reply = Table(
    "reply",  # a text that a recipient sent back
    metadata,
    _id(),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("gateway", String(32), nullable=False),
    Column("phone_hash", LargeBinary, nullable=False, index=True),
    Column("content", LargeBinary, nullable=False),  # encrypted: it may say anything
    Column("signature", String(64)),
    Column("action", String(16), nullable=False),  # opt_out, opt_in, none
    Column("send_time", UtcTime),
    Column("received_time", UtcTime, nullable=False),
    Column("phone_number", LargeBinary),  # encrypted; absent once the person is forgotten
)

unread = Table(
    "unread",  # an entry of a provider's post that could not be read, kept for a person
    metadata,
    _id(),
    Column("digest", LargeBinary, nullable=False, unique=True),  # the same entry again
    Column("gateway", String(32), nullable=False),
    Column("kind", String(16), nullable=False),  # receipt, reply
    Column("why", String(300), nullable=False),
    Column("content", LargeBinary, nullable=False),  # encrypted, as it came
    Column("phone_hash", LargeBinary, index=True),  # of the number, where that could be read
    Column("phone_number", LargeBinary),  # encrypted
    Column("action", String(16), nullable=False),  # none; opt_out: marked as a refusal
    Column("received_time", UtcTime, nullable=False),
)

click = Table(
    "click",  # what came of a message's short link in one hour; no address, no user agent
    metadata,
    _id(),
    Column("message_id", BigId, ForeignKey("message.id"), nullable=False),
    Column("occurrence_id", BigId, ForeignKey("occurrence.id"), nullable=False),
    Column("kind", String(8), nullable=False),  # human, bot
    Column("hour", UtcTime, nullable=False),  # when the hour began, on the business clock
    Column("time", UtcTime, nullable=False),  # of the first of them, on the business clock
    Column("count", Integer, nullable=False),
    UniqueConstraint("message_id", "kind", "hour"),
    Index("ix_click_occurrence_id", "occurrence_id", "kind"),
    Index("ix_click_time", "time"),
)

failure_score = Table(
    "failure_score",  # how much more than nine of ten messages fail with one cause
    metadata,
    Column("occurrence_id", BigId, ForeignKey("occurrence.id"), primary_key=True),
    Column("stage", String(16), primary_key=True),  # submission, report
    Column("cause", String(128), primary_key=True),  # the provider's code; empty: whatever cause
    Column("score", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("alerted_time", UtcTime),  # when the alert about an ended occurrence was posted
    Column("updated_time", UtcTime, nullable=False),
)

audit = Table(
    "audit",  # who did what, beyond the history of single records
    metadata,
    _id(),
    Column("time", UtcTime, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
)

token_bucket = Table(
    "token_bucket",  # messages that may go out now, by gateway and signature
    metadata,
    Column("name", String(128), primary_key=True),
    Column("tokens", Float, nullable=False),
    Column("updated_time", UtcTime, nullable=False),
)

export_run = Table(
    "export_run",  # one delivery of an export's rows of a date to its destination
    metadata,
    _id(),
    Column("export", String(40), nullable=False),
    Column("execution_date", Date, nullable=False),
    Column("task_id", String(200), nullable=False),  # the one that it was limited to, else empty
    Column("tasks", JSON, nullable=False),  # ids of the tasks that the rows come from
    Column("input", String(64), nullable=False),  # fingerprint of the rows and their form
    Column("destination", String(64), nullable=False),  # fingerprint of where they go
    Column("shown", Text, nullable=False),  # the destination for people, without secrets
    Column("place", Text, nullable=False),  # the folder of its files, else empty
    Column("manifest", String(64), nullable=False),  # hash of the manifest, once it is written
    Column("rows", BigInteger, nullable=False),
    Column("sent", BigInteger, nullable=False),  # rows that the destination has had so far
    Column("failed", BigInteger, nullable=False),  # of these, rows that it refused
    Column("state", String(16), nullable=False),  # running, done, failed, expired
    Column("error", Text, nullable=False),
    Column("started_time", UtcTime, nullable=False),
    Column("ended_time", UtcTime),
    Column("expires_time", UtcTime),
    Index("ix_export_run_export", "export", "execution_date", "task_id"),
    sqlite_autoincrement=True,  # an id is part of an idempotency key, so it never comes again
)

export_error = Table(
    "export_error",  # a row that a destination refused; the first of a run, not all
    metadata,
    _id(),
    Column("run_id", BigId, ForeignKey("export_run.id"), nullable=False, index=True),
    Column("row", BigInteger, nullable=False),
    Column("task_id", String(200), nullable=False),
    Column("user_id", Text, nullable=False, index=True),
    Column("reason", String(300), nullable=False),
)
