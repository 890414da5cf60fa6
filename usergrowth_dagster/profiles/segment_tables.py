"""The tables of the profiles of segments: their columns, and how a date of one is replaced."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.columns import arrow_schema

PROFILES, OVERLAPS = "segment_profiles", "segment_overlaps"
RETENTION = "segment_retention"
PROFILE_COLUMNS: dict[str, tuple[str, str]] = {
    "ds": ("DATE", "execution date"),
    "segment": ("VARCHAR", "the segment"),
    "place": ("INTEGER", "place of the tag in the segment, the most different first, from 1"),
    "tag": ("VARCHAR", "the tag"),
    "cramers_v": ("DOUBLE", "strength of the tag's difference, from 0 to 1"),
    "p_value": ("DOUBLE", "of the tag, corrected for the number of tags"),
    "value": ("VARCHAR", "the value; of a number, a tenth of the base"),
    "people": ("BIGINT", "people of the segment with the value"),
    "people_of_base": ("BIGINT", "people of the base with it: everyone known on the date"),
    "share": ("DOUBLE", "share of the segment with the value"),
    "share_of_base": ("DOUBLE", "share of the base with it"),
    "tgi": ("DOUBLE", "100 times the ratio of the shares"),
    "low": ("DOUBLE", "lower end of its 95 % interval"),
    "high": ("DOUBLE", "upper end of its 95 % interval"),
    "is_telling": ("BOOLEAN", "the interval does not hold 100, and enough people have the value"),
    "is_most_telling": ("BOOLEAN", "the value that stands for its tag in the picture"),
}
OVERLAP_COLUMNS: dict[str, tuple[str, str]] = {
    "ds": ("DATE", "execution date"),
    "segments": ("VARCHAR[]", "the exact set of segments"),
    "people": ("BIGINT", "people who are in these segments, and in no other of those compared"),
}
RETENTION_COLUMNS: dict[str, tuple[str, str]] = {
    "ds": ("DATE", "execution date"),
    "segment": ("VARCHAR", "the segment"),
    "week": ("DATE", "Monday of the cohort: the week of the first active day of the window"),
    "people": ("BIGINT", "people of the cohort"),
    "later": ("INTEGER", "weeks since"),
    "share": ("DOUBLE", "share of the cohort that was active in that week"),
}


def replace_rows(
    project: Project,
    table: str,
    columns: Mapping[str, tuple[str, str]],
    rows: list[dict[str, Any]],
    day: date,
    mark: str,
    note: Mapping[str, Any] | None = None,
) -> None:
    """Replace a table's rows of a date.

    Args:
        project: the home.
        table: its name.
        columns: type and meaning by name.
        rows: the new rows; few, since they are about groups and not about users.
        day: the execution date.
        mark: fingerprint of what the rows were made from.
        note: what is noted with them.
    """
    import pyarrow as pa

    project.warehouse.replace(
        table,
        pa.Table.from_pylist(rows, arrow_schema(columns)),
        days=[day],
        fingerprints={day: mark},
        notes={day: note} if note is not None else None,
    )
