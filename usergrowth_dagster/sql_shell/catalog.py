"""The tables of a home at the versions that were asked for, and how an engine gets to see them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import unquote

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import identifier
from usergrowth_dagster.sql_shell.versions import Versions, committed
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import pyarrow as pa

USER, PERSON = "user_id", "one_id"
"""Column of the users, and the table and the column of the persons."""

PHONES: Mapping[str, str] = {"population": "phone", "raw_identity": "id_value"}
"""Column with phone numbers by table; it is left out."""

INSTEAD: Mapping[str, Mapping[str, str]] = {
    "population": {
        # A lambda would not be read by every DuckDB that opens a file for other programs.
        "variables": "case when variables['email'] is null then variables "
        "else map_concat(variables, map {'email': cast(null as varchar)}) end"
    }
}
"""By table and column, what stands for it: the variables of a text without the e-mail address."""


@dataclass(frozen=True)
class DaySize:
    """One data file: its day and rows."""

    day: date
    rows: int


@dataclass(frozen=True)
class TableAt:
    """A table at one version.

    Attributes:
        name: of the table.
        version: its Delta version.
        committed: when that version was written (UTC); None where its commit is gone.
        schema: its columns.
        files: paths of its data files.
        sizes: the day and rows of each data file.
        persons: data files of ``one_id``, where the table is keyed by person too.
    """

    name: str
    version: int
    committed: datetime | None
    schema: "pa.Schema"
    files: Sequence[str]
    sizes: Sequence[DaySize]
    persons: Sequence[str] = ()


class Catalog:
    """The tables of a home at the versions that were asked for.

    Args:
        project: the home.
        versions: which version of each table.

    Raises:
        UserError: a version is asked of a table that is not there.
    """

    def __init__(self, project: Project, versions: Versions) -> None:
        self.project = project
        self.versions = versions
        unknown = sorted(set(versions.by_table) - set(self.names))
        if unknown:
            raise UserError(
                f"--version {unknown[0]}: there is no such table; this home has "
                f"{', '.join(self.names) or 'none'}",
                code="table.no_version",
            )

    @property
    def names(self) -> list[str]:
        """Names of all tables, also of those that were not there yet at the time asked for."""
        return sorted(self.project.warehouse.tables())

    def version(self, name: str) -> int | None:
        """The version of a table that is read; None: it was not there yet."""
        return self.versions.of(self.project.warehouse, name)

    def table(self, name: str) -> TableAt:
        """A table at its version.

        Raises:
            UserError: it was not there at the time asked for.
        """
        import pyarrow as pa

        warehouse = self.project.warehouse
        version = self.version(name)
        if version is None:
            raise UserError(f"{name} was not there at that time", code="table.no_version")
        opened = warehouse.open(name, version)
        actions = opened.get_add_actions(flatten=True)
        columns = (
            actions.column(key).to_pylist() for key in ("path", "partition.ds", "num_records")
        )
        files = sorted(zip(*columns, strict=True))
        root = f"tables/{name}"
        schema = pa.schema(opened.schema().to_arrow())
        return TableAt(
            name,
            version,
            committed(warehouse, name, version),
            schema,
            [warehouse.storage.uri(f"{root}/{unquote(path)}") for path, _, _ in files],
            [DaySize(day, rows or 0) for _, day, rows in files],
            self._persons if USER in schema.names and PERSON not in schema.names else (),
        )

    @cached_property
    def _persons(self) -> Sequence[str]:
        """Data files of the newest persons, if the setting asks for them and there are any."""
        by_person = self.project.settings.tables_by == PERSON
        version = self.version(PERSON) if by_person and PERSON in self.names else None
        if version is None:
            return ()
        days = self.project.warehouse.files(PERSON, version=version)
        return days[max(days)] if days else ()


def bind(engine: Engine, table: TableAt) -> None:
    """Make the view of a table under its own name, without phone numbers and e-mail addresses.

    Raises:
        UserError: data files of this version are no longer there.
    """
    import duckdb

    columns = duckdb_types(engine, table.schema)
    columns.pop(PHONES.get(table.name, ""), None)
    try:
        rows = engine.files_sql(table.files, columns, INSTEAD.get(table.name))
        if table.persons:
            rows = _by_person_sql(engine, rows, columns, table.persons)
        engine.run(f"create or replace view {identifier(table.name)} as {rows}")
    except duckdb.IOException:
        raise UserError(
            f"{table.name} version {table.version} can no longer be read: data files of it were "
            "removed, as they are when a person is forgotten; choose another version",
            code="table.no_version",
        ) from None


def _by_person_sql(
    engine: Engine, rows: str, columns: Mapping[str, str], persons: Sequence[str]
) -> str:
    """Rows with the person after the user; a user who is nobody's person stands for itself."""
    known = engine.files_sql(
        persons, {"id_type": "VARCHAR", "id_value": "VARCHAR", PERSON: "VARCHAR"}
    )
    listed = ", ".join(
        f"r.{identifier(name)}"
        + (f", coalesce(p.{PERSON}, r.{USER}) as {PERSON}" if name == USER else "")
        for name in columns
    )
    return (
        f"select {listed} from ({rows}) as r left join ("
        f"select id_value, min({PERSON}) as {PERSON} from ({known}) "
        f"where id_type = '{USER}' group by id_value) as p on p.id_value = r.{USER}"
    )


def duckdb_types(engine: Engine, schema: "pa.Schema") -> dict[str, str]:
    """DuckDB type of each column of an Arrow schema."""
    engine.connection.register("_columns", schema.empty_table())
    try:
        return engine.describe("select * from _columns")
    finally:
        engine.connection.unregister("_columns")
