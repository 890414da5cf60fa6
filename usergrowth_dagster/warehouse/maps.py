"""MAP columns that are made of sorted entries without a second look at them.

DuckDB checks each map that it makes for keys that come twice, which costs ten times as much as the
list of its entries. A model calls ``as_map`` on a list of entries that its own GROUP BY has made
unique. While a model is built, ``as_map`` leaves the list as it is, and the list becomes a map on
its way into the table, where it has the same layout in memory. Everywhere else it is DuckDB's
``map_from_entries``.
"""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

AS_MAP = "create or replace macro as_map(entries) as map_from_entries(entries)"
AS_ENTRIES = "create or replace macro as_map(entries) as entries"
_MAP = re.compile(r"^MAP\((\w+), (.+)\)$")


def entries_type(kind: str) -> str | None:
    """The type of the list of a map's entries; None for a type that is no map."""
    match = _MAP.match(kind)
    return f"STRUCT(k {match[1]}, v {match[2]})[]" if match else None


def output_types(declared: Mapping[str, str], made: Mapping[str, str]) -> dict[str, str]:
    """The type that each column of a model is cast to before it is published.

    Args:
        declared: DuckDB types by column.
        made: types of what the model's SELECT gives.

    Returns:
        The declared types, but for a map that comes as a list of entries that list's type.
    """
    return {
        name: (entries_type(kind) or kind) if made[name].endswith("[]") else kind
        for name, kind in declared.items()
    }


def with_maps(
    reader: "pa.RecordBatchReader", declared: Mapping[str, str]
) -> "pa.RecordBatchReader":
    """The same rows, with a map for each list of entries of a column that is declared a map."""
    import pyarrow as pa

    places = [
        place
        for place, field in enumerate(reader.schema)
        if pa.types.is_list(field.type) and declared[field.name].startswith("MAP")
    ]
    if not places:
        return reader
    schema = reader.schema
    for place in places:
        entry = schema.field(place).type.value_type
        kind = pa.map_(entry.field(0).type, entry.field(1).type)
        schema = schema.set(place, pa.field(schema.field(place).name, kind))

    def batches() -> "Iterator[pa.RecordBatch]":
        for batch in reader:
            columns = list(batch.columns)
            for place in places:
                columns[place] = _as_map(columns[place], schema.field(place).type)
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _as_map(lists: Any, kind: "pa.MapType") -> Any:
    import pyarrow as pa

    entries = lists.values
    pairs = pa.StructArray.from_arrays(
        [entries.field(0), entries.field(1)],
        fields=[pa.field("key", kind.key_type, nullable=False), pa.field("value", kind.item_type)],
    )
    buffers = lists.buffers()[:2]
    return pa.Array.from_buffers(
        kind, len(lists), buffers, lists.null_count, lists.offset, children=[pairs]
    )
