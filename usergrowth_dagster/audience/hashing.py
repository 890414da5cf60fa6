"""One hash of a whole decision, the same on every machine, and what differs between two of them.

The hash is SHA-256 over the SHA-256 of each row (64 hex digits), in the order of ``row``. The text
of a row has its columns in order, each as ``<length>:<value>`` with the value as DuckDB writes it
(doubles in the fewest digits that read back the same), or ``-`` for NULL. So no two different rows
have the same text, and neither the order of the files nor the number of threads matters.
"""

import hashlib
from collections.abc import Sequence

from usergrowth_dagster.warehouse.engine import Engine


def row_hash_sql(columns: Sequence[str]) -> str:
    """DuckDB expression: the SHA-256 of a row's columns, as 64 hex digits."""
    parts = []
    for name in columns:
        value = f'cast("{name}" as varchar)'
        parts.append(f"coalesce(length({value}) || ':' || {value}, '-')")
    return f"sha256({' || '.join(parts)})"


def relation_hash(engine: Engine, relation: str, columns: Sequence[str]) -> tuple[str, int]:
    """The hash of a decision, and its rows; memory does not grow with the rows.

    Args:
        engine: holds the relation.
        relation: table or view with a column ``row`` that is unique.
        columns: the columns that count, in order.
    """
    digest, rows = hashlib.sha256(), 0
    for batch in engine.stream(
        f'select {row_hash_sql(columns)} as h from "{relation}" order by "row"'
    ):
        digest.update("".join(batch.column(0).to_pylist()).encode())
        rows += batch.num_rows
    return digest.hexdigest(), rows


def differing_columns(
    engine: Engine, one: str, other: str, columns: Sequence[str]
) -> tuple[int, list[str]]:
    """Rows that differ between two decisions, and the columns they differ in, in order.

    A row that only one of them has counts as one that differs in its ``row``.
    """
    tests = ", ".join(
        f'count(*) filter (where a."{name}" is distinct from b."{name}")' for name in columns
    )
    any_of = " or ".join(f'a."{name}" is distinct from b."{name}"' for name in columns)
    rows, *counts = engine.rows(
        f'select count(*) filter (where {any_of}), {tests} from "{one}" as a '
        f'full join "{other}" as b on a."row" = b."row"'
    )[0]
    return int(rows), [name for name, count in zip(columns, counts, strict=True) if count]
