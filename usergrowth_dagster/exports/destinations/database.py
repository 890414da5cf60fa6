"""A table of a database: all rows in one transaction, so that a reader sees the old or the new.

Rows that the table cannot hold, such as a text that is too long, are refused one by one before the
transaction; what does not fit as a whole, such as a column of another type, is one sentence and
nothing is written.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from usergrowth_dagster.addresses.shown import hide_numbers
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.exports.definition import Export
from usergrowth_dagster.exports.destinations.base import Delivered, Delivery
from usergrowth_dagster.exports.destinations.mysql_writer import MySqlWriter
from usergrowth_dagster.exports.destinations.postgres_writer import PostgresWriter
from usergrowth_dagster.exports.destinations.table_writer import (
    MARK,
    ROW,
    Load,
    TableWriter,
    TargetTable,
)
from usergrowth_dagster.exports.rows import ExportRows
from usergrowth_dagster.exports.runs import KEPT_ERRORS, ExportRun, RowError
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.sources.databases.connect import read_password, without_password
from usergrowth_dagster.sources.databases.session import DatabaseError


class DatabaseDestination:
    """A table of PostgreSQL, MySQL or MariaDB; implements :class:`base.Destination`.

    Args:
        export: the export.
        home: what a relative ``password_file`` starts from.
    """

    resumes = False

    def __init__(self, export: Export, home: Path) -> None:
        assert export.to.database is not None
        self._export = export
        self._keys = export.to.database
        self._home = home
        self._place = f"export {export.name}: to.database"
        self.shown = self._keys.shown

    def check(self, rows: ExportRows | None) -> None:
        """Connect, and compare the table with the columns and the keys of the rows."""
        with self._session() as writer:
            table = writer.table()
            if rows is None:
                return
            load = self._load(rows)
            if table is not None:
                self._check_table(writer, table, load)
            self._check_keys(rows)

    def holds(self, run: ExportRun) -> bool:
        """Whether the table has as many rows, of this export where they are marked."""
        with self._session() as writer:
            table = writer.table()
            if table is None or (self._mark is not None and MARK not in table.columns):
                return False
            count, brought = writer.count(self._mark), run.sent - run.failed
            return count == brought if self._mark is not None else count >= brought

    def finished(self, run: ExportRun) -> Delivered | None:
        """Nothing is known of a transaction whose end nobody saw; the rows go in again."""
        return None

    def remove(self, run: ExportRun) -> bool:
        """Rows of a table do not expire."""
        return False

    def deliver(self, delivery: Delivery) -> Delivered:
        """Stage the rows, then change the table in one transaction."""
        rows, load = delivery.rows, self._load(delivery.rows)
        with self._session() as writer:
            table = writer.table()
            if table is None:
                writer.create(load)
                table = writer.table()
            assert table is not None
            refused, errors = self._refuse(writer, table, load, rows)
            staged = writer.stage(load, rows.numbered(ROW, f'"row" not in (from {refused})'))
            if repeated := writer.repeated_keys(load):
                raise UserError(
                    f"{self._place}.key: {repeated} keys of several rows are one and the same to "
                    f"{self.shown}, whose collation does not tell them apart; give the columns a "
                    "binary collation",
                    code="export.refused",
                )
            writer.upsert(load)
            if self._mark is not None:
                writer.delete_others(load)
            matching = writer.matching(load)
            if not staged == matching == rows.rows - len(errors):
                raise UserError(
                    f"{self._place}: {rows.rows - len(errors)} rows go out and {matching} would "
                    f"be in {self.shown}; nothing was changed",
                    code="export.incomplete",
                )
            writer.commit()
        return Delivered(rows.rows, len(errors), errors[:KEPT_ERRORS])

    @property
    def _mark(self) -> str | None:
        return self._export.name if self._keys.mode == "replace" else None

    def _load(self, rows: ExportRows) -> Load:
        kinds = tuple(column.kind for column in rows.columns)
        return Load(tuple(rows.names), kinds, self._keys.key, self._mark)

    @contextmanager
    def _session(self) -> Iterator[TableWriter]:
        password = read_password(self._keys, self._home, self._place)
        kind = PostgresWriter if self._keys.dialect == "postgresql" else MySqlWriter
        try:
            writer: TableWriter = kind(self._keys.url, password, self._keys.table)
        except DatabaseError as error:
            raise UserError(
                f"{self._place}.url: {without_password(str(error), password)}",
                code="export.unreachable",
            ) from None
        try:
            yield writer
        except DatabaseError as error:
            words = without_password(str(error), password)
            if error.lost:
                raise UserError(
                    f"{self._place}: the connection to {self.shown} was lost, and nothing was "
                    f"changed: {words}",
                    code="export.unreachable",
                ) from None
            raise UserError(  # a duplicate is quoted with its key, which may be a number
                f"{self._place}: {self.shown} refuses the rows: {hide_numbers(words)}",
                code="export.refused",
            ) from None
        finally:
            writer.close()

    def _check_table(self, writer: TableWriter, table: TargetTable, load: Load) -> None:
        """Refuse a table that lacks a column, has another type, or has no such key."""
        at = f"{self._place}.table: {self.shown}"
        kinds = dict(zip(load.names, load.kinds, strict=True))
        if load.mark is not None:
            kinds[MARK] = "VARCHAR"
        for name, kind in kinds.items():
            column = table.columns.get(name)
            made = f"{identifier(name)} as {writer.types[kind]}"
            if column is None:
                raise UserError(
                    f"{at} has no column {name!r}; add {made}, or leave it out of columns",
                    code="export.refused",
                )
            if column.kind not in writer.accepted[kind]:
                raise UserError(
                    f"{at}: column {name!r} is {column.kind}, which does not hold every "
                    f"{kind.lower()}; make it {writer.types[kind]}",
                    code="export.refused",
                )
        for name, column in table.columns.items():
            if column.required and name not in kinds:
                raise UserError(
                    f"{at}: column {name!r} needs a value, and the export has none for it; give "
                    "it a default",
                    code="export.refused",
                )
        if frozenset(load.key) not in table.unique:
            raise UserError(
                f"{self._place}.key: {self.shown} has no primary key or unique index of exactly "
                f"{', '.join(load.key)}",
                code="export.refused",
            )
        others = [key for key in table.unique if key != frozenset(load.key) and key <= set(kinds)]
        if others and writer.other_keys_collide:
            raise UserError(
                f"{self._place}.key: {self.shown} is unique by {', '.join(sorted(others[0]))} "
                "too, so an update could hit another row; drop that index",
                code="export.refused",
            )

    def _check_keys(self, rows: ExportRows) -> None:
        """Refuse rows of which two have one key, or one has none."""
        key = [rows.value_sql(name) for name in self._keys.key]
        missing = " or ".join(f"{column} is null" for column in key)
        listed = ", ".join(key)
        absent = rows.engine.value(f"select count(*) from {rows.relation} where {missing}")
        repeated = rows.engine.value(
            f"select count(*) from {rows.relation} where ({listed}) in "
            f"(select ({listed}) from {rows.relation} group by all having count(*) > 1)"
        )
        names = ", ".join(self._keys.key)
        if absent:
            raise UserError(
                f"{self._place}.key: {absent} of {rows.rows} rows have no {names}",
                code="export.refused",
            )
        if repeated:
            raise UserError(
                f"{self._place}.key: {names} is shared by several rows, {repeated} of {rows.rows} "
                "in all; add the column in which they differ, such as task_id or item_id",
                code="export.refused",
            )

    def _refuse(
        self, writer: TableWriter, table: TargetTable, load: Load, rows: ExportRows
    ) -> tuple[str, list[RowError]]:
        """The rows that the table cannot hold: a table of their numbers, and why."""
        reasons = []
        for name, kind in zip(load.names, load.kinds, strict=True):
            if kind != "VARCHAR":
                continue
            value, length = rows.value_sql(name), table.columns[name].length
            shown = name.replace("\n", " ")
            if length is not None:
                said = literal(f"{shown}: longer than the {length} characters of the column")
                reasons.append(f"when length({value}) > {length} then {said}")
            if writer.text_refusal is not None:
                said = literal(f"{shown}: has the character NUL, which the database cannot hold")
                reasons.append(
                    f"when contains({value}, chr({ord(writer.text_refusal)})) then {said}"
                )
        refused = rows.engine.unique_name("refused_rows")
        case = f"case {' '.join(reasons)} end" if reasons else "null"
        rows.engine.run(
            f'create temp table {refused} as select "row" from {rows.relation} '
            f"where {case} is not null"
        )
        lines = rows.engine.rows(
            f'select "row", task_id, user_id, {case} from {rows.relation} '
            f'where "row" in (from {refused}) order by 1'
        )
        return refused, [RowError(*line) for line in lines]
