"""Blocks of cells that a table stores as they are: each row is good, and no value changes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from usergrowth_dagster.data.contracts import Column, Contract
from usergrowth_dagster.data.lines import is_plain
from usergrowth_dagster.data.rules import CELLS, stored_sql

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection


def stored_rows(
    connection: "DuckDBPyConnection", contract: Contract, block: "pa.Table", header: Sequence[str]
) -> "pa.Table | None":
    """A block of cells under its columns' names, if each row is good and stored as it is.

    A column at a time takes a fraction of the time that a row at a time does, and a text of pairs
    that many rows share is looked at once.

    Args:
        connection: judges the cells.
        contract: of the rows.
        block: day, file, line, then a column a cell: ``c1``, ``c2`` …
        header: all column names of the file.

    Returns:
        Day, file, line and the contract's columns; None where a row may be bad or a value changes.
    """
    cells = {name: f"c{place}" for place, name in enumerate(header, 1)}
    taken = [cells[name] for name in contract.names]
    if not is_plain([block.column(cell) for cell in cells.values()]):
        return None
    for column, cell in zip(contract.columns, taken, strict=True):
        if column.kind != "VARCHAR" or not _all_stored(connection, column, block.column(cell)):
            return None
    placed = ["day", "file", "line"]
    return block.select([*placed, *taken]).rename_columns([*placed, *contract.names])


def _all_stored(connection: "DuckDBPyConnection", column: Column, cells: "pa.ChunkedArray") -> bool:
    """Whether all cells of a column are good and stored as they are."""
    import pyarrow as pa

    if column.check.startswith("kvs"):  # to look at such a cell takes longer than to find it
        cells = cells.unique()
    connection.register(CELLS, pa.table({"x": cells}))
    try:
        counted = connection.execute(stored_sql(column)).fetchall()
        return bool(counted[0][0] == len(cells))
    finally:
        connection.unregister(CELLS)
