"""The page of a segment's file, from its JSON schema."""

from docs_site.campaign import keys_of
from docs_site.markdown import code, sentence, table
from usergrowth_dagster.segments.definition import Segment
from usergrowth_dagster.segments.snapshots import SNAPSHOT_COLUMNS

HEAD = """\
# Segments

Each file `<name>.yml` or `<name>.json` in the folder `segments` of a home is a segment; see
[Make a segment](../how-to/segments.md). `usergrowth segment check` checks every key, and
`usergrowth segment schema` writes the JSON schema. An unknown key is refused.
"""


def page() -> str:
    """A section for the file, one for each group of keys, and the columns of the snapshots."""
    lines = [
        (code(name), code(kind), sentence(text)) for name, (kind, text) in SNAPSHOT_COLUMNS.items()
    ]
    return (
        HEAD
        + keys_of(Segment.model_json_schema(by_alias=True))
        + f"\n## Columns of segment_snapshots\n\n{table(('column', 'type', 'meaning'), lines)}"
    )
