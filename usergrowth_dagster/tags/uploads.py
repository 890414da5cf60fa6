"""Uploaded values of a tag: a CSV file below the landing root with a line for each user."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import identifier
from usergrowth_dagster.tags.definition import DUCKDB_TYPES, FILE_NAME, UPLOADS, Tag
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_arrow, bind_query

if TYPE_CHECKING:
    import pyarrow as pa

_HEADER = ["user_id", "value"]


@dataclass(frozen=True)
class Upload:
    """The values of one uploaded tag.

    Attributes:
        values: ``user_id`` and ``value``, a row a user.
        lines: lines of the file below the header.
        left_out: lines that give no value, by reason.
    """

    values: Relation
    lines: int
    left_out: Mapping[str, int]

    @property
    def sentence(self) -> str:
        """What was left out, for people; "" where nothing was."""
        parts = [f"{count:,} {reason}" for reason, count in self.left_out.items() if count]
        return f"{', '.join(parts)} of {self.lines:,} lines were left out" if parts else ""


def bind_upload(engine: Engine, project: Project, tag: Tag) -> Upload:
    """The values of an uploaded tag.

    A line without a user or with a value of another type is left out, and so is every line of a
    user who has two different values: nobody knows which one is meant.

    Raises:
        UserError: the file is missing, or is no CSV with the two columns.
    """
    assert tag.upload is not None and tag.type is not None
    table, content = _read(project, tag)
    lines = bind_arrow(engine, "tag_lines", table, content)
    kind = DUCKDB_TYPES[tag.type]
    sql = (
        f"select user_id, try_cast(value as {kind}) as value, "
        "case when coalesce(user_id, '') = '' then 'without a user' "
        f"when value is not null and try_cast(value as {kind}) is null then 'not {tag.type}' "
        "when count(distinct value) over (partition by user_id) > 1 then 'with two values' end "
        f"as reason from {lines}"
    )
    checked = bind_query(engine, "tag_checked", sql, of=[lines], keep=True)
    left_out = dict(
        engine.rows(
            f"select reason, count(*) from {checked} where reason is not null group by 1 order by 1"
        )
    )
    values = bind_query(
        engine,
        "tag_values",
        f"select user_id, any_value(value) as value from {checked} where reason is null "
        "group by user_id",
        of=[checked],
    )
    named = Relation(values.name, values.columns, values.files, content)
    return Upload(named, table.num_rows, left_out)


def _read(project: Project, tag: Tag) -> "tuple[pa.Table, str]":
    """The lines of the file as texts, and the hash of its content."""
    import pyarrow as pa
    from pyarrow import csv

    path = f"{UPLOADS}/{tag.upload}"
    place = f"{FILE_NAME}: tag {tag.key}: {project.landing.uri(path)}"
    if not project.landing.exists(path):
        raise UserError(f"{place}: there is no such file", code="tag.invalid")
    texts = csv.ConvertOptions(
        column_types=dict.fromkeys(_HEADER, pa.string()),
        null_values=["", r"\N"],
        strings_can_be_null=True,
    )
    try:
        with project.landing.open(path) as handle:
            table = csv.read_csv(io.BytesIO(handle.read()), convert_options=texts)
    except pa.ArrowInvalid as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"{place}: not a CSV file: {reason}", code="tag.invalid") from None
    if table.column_names != _HEADER:
        raise UserError(
            f"{place}: the header is {', '.join(map(identifier, table.column_names))}; it must be "
            "user_id,value",
            code="tag.invalid",
        )
    return table, project.landing.sha256(path)
