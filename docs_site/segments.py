"""The page of a segment's file, from its JSON schema."""

from collections.abc import Mapping

from docs_site.campaign import keys_of
from docs_site.markdown import code, sentence, table
from usergrowth_dagster.segments.definition import Segment
from usergrowth_dagster.segments.groups.checks import CHECK_COLUMNS, RULES
from usergrowth_dagster.segments.snapshots import SNAPSHOT_COLUMNS

HEAD = """\
# Segments

Each file `<name>.yml` or `<name>.json` in the folder `segments` of a home is a segment; see
[Make a segment](../how-to/segments.md). `usergrowth segment check` checks every key, and
`usergrowth segment schema` writes the JSON schema. An unknown key is refused.
"""


def page() -> str:
    """The file and each group of keys, the rules of a source's rows, and columns of the tables."""
    rules = [(code(name), sentence(text)) for name, text in RULES.items()]
    return (
        HEAD
        + keys_of(Segment.model_json_schema(by_alias=True))
        + f"\n## Rules of the rows of a source\n\n{table(('rule', 'what a row keeps to'), rules)}"
        + _columns("segment_snapshots", SNAPSHOT_COLUMNS)
        + _columns("segment_checks", CHECK_COLUMNS)
    )


def _columns(name: str, columns: Mapping[str, tuple[str, str]]) -> str:
    lines = [(code(column), code(kind), sentence(text)) for column, (kind, text) in columns.items()]
    return f"\n## Columns of {name}\n\n{table(('column', 'type', 'meaning'), lines)}"
