"""A DuckDB file with a view for each table, for programs that open such files (Superset, Metabase).

A view names the data files of one version: it stays as it is while the tables go on, and writing
the file again brings it up to date. Views over ``delta_scan`` would follow by themselves, but need
an extension that DuckDB loads from the network in each program that opens the file.
"""

import uuid
from contextlib import closing
from pathlib import Path

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.sql_shell.catalog import Catalog, TableAt, bind
from usergrowth_dagster.warehouse.engine import Engine

VERSIONS = "table_versions"
"""Table of the file with the version of each view."""

_STORAGE_VERSION = "v1.0.0"
"""Form of the file: every DuckDB from 1.0 on reads it, older drivers too."""


def write_database(catalog: Catalog, path: Path) -> list[TableAt]:
    """Write a file with a view for each table; programs see the old file or the whole new one.

    Args:
        catalog: the tables and their versions.
        path: the file; one that this function wrote before is replaced.

    Returns:
        The tables, in the order of their names.

    Raises:
        UserError: another file is there.
    """
    _check_ours(path)
    names = [name for name in catalog.names if catalog.version(name) is not None]
    tables = [catalog.table(name) for name in names]
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        _write(draft, tables)
        draft.chmod(0o600)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return tables


def _write(path: Path, tables: list[TableAt]) -> None:
    import duckdb

    with closing(duckdb.connect()) as connection:
        engine = Engine(connection)
        engine.run(f"attach {literal(str(path))} as home (storage_version '{_STORAGE_VERSION}')")
        engine.run("use home")
        engine.run(
            f"create table {VERSIONS} ("
            '"table" varchar, version bigint, committed timestamptz, "rows" bigint)'
        )
        for table in tables:
            bind(engine, table)
            rows = sum(size.rows for size in table.sizes)
            values = [table.name, table.version, table.committed, rows]
            engine.run(f"insert into {VERSIONS} values (?, ?, ?, ?)", values)


def _check_ours(path: Path) -> None:
    import duckdb

    if not path.exists():
        return
    try:
        with closing(duckdb.connect(str(path), read_only=True)) as connection:
            connection.execute(f"select * from {identifier(VERSIONS)} limit 0")
    except duckdb.Error:
        raise UserError(
            f"{path}: another file is there, or a program writes to it; give another name",
            code="file.exists",
        ) from None
