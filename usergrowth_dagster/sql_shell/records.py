"""The control records that may be queried, and their columns: a list of what is shown.

Whatever is not on the list stays out, also a column that the schema gains later. No phone number,
no hash of one or of a user id, no parameter of a text, no reply, and nothing typed by a recipient
is on it. Refusals and delivery reports are there for counts alone: they name no person.
"""

import json
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from sqlalchemy import Boolean, Column, Date, Float, Integer, Table, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.columns import Code, UtcTime
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.documents import plain

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = "control"
"""Schema of the records in SQL: ``select * from control.message``."""

_BATCH_ROWS = 10_000
_RECORD = "id name remark status created_time updated_time"

COLUMNS: Mapping[str, tuple[str, ...]] = {
    table: tuple(columns.split())
    for table, columns in {
        "campaign": "id name remark spec spec_hash created_time updated_time",
        "audience_group": f"{_RECORD} source algorithm inference_job_id amount campaign_id",
        "training_job": f"{_RECORD} algorithm campaign_id data_path user_config has_model_info",
        "inference_job": f"{_RECORD} algorithm campaign_id execution_date data_path target_path "
        "training_job_id user_config group_id target_group_id",
        "signature": "id name description status reason created_time updated_time",
        "template": "id template_code name content subject link type signature_id status reason "
        "created_time updated_time",
        "schedule": "id name campaign_id group_id signature_id template_id channel execute_time "
        "end_time repeat_cycle repeat_cycle_unit repeat_times ai_send_start_date ai_send_end_date "
        "paused max_cost status created_time updated_time",
        "schedule_variant": "schedule_id template_id",
        "history": "id kind record_id time actor from to note code hint",
        "occurrence": "id schedule_id name task_id channel state reason due send_by signature "
        "template_code template_type content price other_price currency sequence audience_date "
        "contact subject variants link link_domain created_time updated_time",
        "batch": "id occurrence_id gateway size submitted_time answered_time",
        "message": "id occurrence_id channel user_id item_id segments state reason error_code "
        "batch_id attempts not_before retry_at zone sent_time final_time variant updated_time",
        "click": "id message_id occurrence_id kind hour time count",
        "failure_score": "occurrence_id stage cause score failures alerted_time updated_time",
        "receipt": "id gateway status code report_time received_time batch_id message_id pending",
        "suppression": "id channel scope reason created_time lifted_time",
        "audit": "id time actor action subject detail",
    }.items()
}
"""The columns of each table of the control store that may be queried."""


def record_types(name: str) -> dict[str, "pa.DataType"]:
    """Arrow type of each column of a table that may be queried."""
    return {column.name: _type(column) for column in _columns(name)}


def read_records(store: ControlStore, name: str) -> "pa.RecordBatchReader":
    """The rows of a table that may be queried, read as they are asked for.

    Times are in UTC, status codes are words, JSON is text.
    """
    import pyarrow as pa

    arrow = pa.schema(list(record_types(name).items()))

    def batches() -> Iterator[pa.RecordBatch]:
        with store.read() as connection:
            rows = connection.execution_options(yield_per=_BATCH_ROWS).execute(
                select(*_columns(name))
            )
            for part in rows.partitions():
                columns = zip(*part, strict=True)
                yield pa.RecordBatch.from_arrays(
                    [
                        pa.array([_plain(value, field.type) for value in values], field.type)
                        for values, field in zip(columns, arrow, strict=True)
                    ],
                    schema=arrow,
                )

    return pa.RecordBatchReader.from_batches(arrow, batches())


def _columns(name: str) -> list[Column[Any]]:
    table: Table = schema.metadata.tables[name]
    return [table.c[column] for column in COLUMNS[name]]


def _type(column: Column[Any]) -> "pa.DataType":
    import pyarrow as pa

    kind = column.type
    if isinstance(kind, UtcTime):
        return pa.timestamp("us", "UTC")
    if isinstance(kind, Boolean):
        return pa.bool_()
    if isinstance(kind, Date):
        return pa.date32()
    if isinstance(kind, Float):
        return pa.float64()
    if isinstance(kind, Integer) and not isinstance(kind, Code):
        return pa.int64()
    return pa.string()


def _plain(value: Any, kind: "pa.DataType") -> Any:
    """A value as Arrow takes it."""
    if isinstance(value, Enum):
        return value.name.lower()
    if value is None or str(kind) != "string" or isinstance(value, str):
        return value
    return json.dumps(plain(value), ensure_ascii=False)
