"""The columns of a table as its package declares them: DuckDB type and meaning by name."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def types_of(columns: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """The DuckDB types of a table's columns, in order."""
    return {name: kind for name, (kind, _) in columns.items()}


def arrow_schema(columns: Mapping[str, tuple[str, str]]) -> "pa.Schema":
    """The Arrow schema of a table's columns, for rows that Python has made.

    Raises:
        KeyError: the type of a column is none of those below.
    """
    import pyarrow as pa

    kinds = {
        "BIGINT": pa.int64(),
        "BOOLEAN": pa.bool_(),
        "DATE": pa.date32(),
        "DOUBLE": pa.float64(),
        "INTEGER": pa.int32(),
        "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
        "VARCHAR": pa.string(),
        "VARCHAR[]": pa.list_(pa.string()),
    }
    return pa.schema([(name, kinds[kind]) for name, kind in types_of(columns).items()])
