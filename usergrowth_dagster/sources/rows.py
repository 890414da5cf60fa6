"""The SELECT that makes rows of a landing table from rows of a source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from zoneinfo import ZoneInfo

from usergrowth_dagster.data.contracts import IDENTITY, Column
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.sources.definition import KVS, OF_IDS, Source
from usergrowth_dagster.sources.elements import EMPTY, IDS, require_exact
from usergrowth_dagster.sources.experiments import experiment_sql
from usergrowth_dagster.sources.expressions import Expressions
from usergrowth_dagster.sources.files import FILE_COLUMN
from usergrowth_dagster.warehouse.engine import Engine

_TIMES = ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")
_ZONED = "TIMESTAMP WITH TIME ZONE"


@dataclass(frozen=True)
class RowSql:
    """How rows of a source become rows of its landing table.

    Attributes:
        day: expression of the business day; NULL where the time says none.
        columns: expression of each column of the contract, as text, in its order.
        where: condition of the rows that are taken.
        unique: expressions that name a row once; none: every row counts.
        not_numbers: by key of ``num``, the condition that a text in it is no number.
        refusals: by column, the condition of rows that no experiment can have, and what they have.
    """

    day: str
    columns: Mapping[str, str]
    where: str
    unique: tuple[str, ...]
    not_numbers: Mapping[str, str]
    refusals: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def content(self) -> tuple[str, ...]:
        """Expressions that together decide what a row lands as."""
        return (*self.columns.values(), *self.unique)

    def select(self, relation: str, days: str) -> str:
        """The rows of some days: the contract's columns and ``ds``.

        Args:
            relation: the source's rows.
            days: condition on ``ds``.
        """
        body = ", ".join(f"{sql} as {identifier(name)}" for name, sql in self.columns.items())
        once = self._once() if self.unique else ""
        return (
            f"select * from (select {body}, {self.day} as ds from {relation} "
            f"where {self.where}{once}) as landing_rows where {days}"
        )

    def _once(self) -> str:
        """One row of several with a key; a row whose keys are all NULL has none and is kept."""
        keys = ", ".join(self.unique)
        order = ", ".join([identifier(FILE_COLUMN), *self.columns.values()])
        return (
            f" qualify row_number() over (partition by {self.day}, {keys} order by {order}) = 1 "
            f"or coalesce({', '.join(f'cast({key} as varchar)' for key in self.unique)}) is null"
        )


def row_sql(engine: Engine, source: Source, columns: Mapping[str, str], zone: ZoneInfo) -> RowSql:
    """Check every expression of a source and write how its rows become landing rows.

    Args:
        engine: parses the expressions; its time zone becomes that of the source's times.
        source: the source.
        columns: DuckDB type of each column of the source's files.
        zone: the business time zone.

    Raises:
        UserError: an expression breaks a rule; names the source, the key and the rule.
    """
    expressions = Expressions(engine, columns)
    place = f"source {source.name}:"
    engine.run(f"set timezone = {literal(source.day.zone or str(zone))}")
    day, hour = _day(expressions, source, str(zone))
    where = [expressions.sql(source.where, f"{place} where")] if source.where else []
    where += [f"not {EMPTY}"] if source.gives_lists else []
    numbers = {
        key: expressions.sql(text, f"{place} num.{key}", number=True)
        for key, text in source.num.items()
    }
    texts = {key: expressions.sql(text, f"{place} str.{key}") for key, text in source.str_.items()}
    cells: dict[str, str] = {}
    not_numbers: dict[str, str] = {}
    refusals: Mapping[str, tuple[str, str]] = {}
    if source.is_experiment:
        made = experiment_sql(expressions, source.name, source.columns, source.control)
        cells["target"], refusals = made.target, made.refusals
        not_numbers |= made.not_numbers
        numbers |= {"propensity": made.chance} | ({"cost": made.cost} if made.cost else {})
        texts |= made.texts
    if source.ids:
        cells |= {name: f"{identifier(IDS)}.{name}" for name in OF_IDS}
    for name, column in _plain(source).items():
        cells.setdefault(name, _cell(expressions, source, column))
    written = {name: _cell(expressions, source, column) for name, column in _kvs(source).items()}
    kvs = {
        "kvs_num": _numbers_cell(numbers, [hour, written.get("kvs_num")]),
        "kvs_str": _texts_cell(texts, [written.get("kvs_str")]),
    }
    return RowSql(
        day=day,
        columns={c.name: kvs.get(c.name) or cells[c.name] for c in source.contract.columns},
        where=" and ".join(f"({condition})" for condition in where) or "true",
        unique=tuple(
            expressions.sql(text, f"{place} unique.{number}")
            for number, text in enumerate(source.unique)
        ),
        not_numbers=not_numbers
        | {
            key: condition
            for key, sql in numbers.items()
            if (condition := expressions.not_a_number(sql))
        },
        refusals=refusals,
    )


def _plain(source: Source) -> dict[str, Column]:
    return {column.name: column for column in source.contract.columns if column.name not in KVS}


def _kvs(source: Source) -> dict[str, Column]:
    """Columns whose pairs the source has already written, as a landing file has them."""
    return {
        c.name: c for c in source.contract.columns if c.name in KVS and c.name in source.columns
    }


def _day(expressions: Expressions, source: Source, business: str) -> tuple[str, str | None]:
    """The business day of a row, and the hour of it where the time has one."""
    if isinstance(source.day.snapshot, date):
        return f"date '{source.day.snapshot.isoformat()}'", None
    assert source.day.time is not None
    place = f"source {source.name}: day.time"
    time = expressions.sql(source.day.time, place)
    kind = expressions.kind(time)
    if kind == "DATE":
        return time, None
    if kind == "VARCHAR":
        moment, known = f"try_cast({time} as timestamptz)", f"contains({time}, ':')"
    elif kind == _ZONED:
        moment, known = time, "true"
    elif kind in _TIMES:
        own_zone = literal(source.day.zone or business)
        moment, known = f"timezone({own_zone}, cast({time} as timestamp))", "true"
    else:
        raise UserError(
            f"{place}: {source.day.time!r} is a {kind}, not a time; write "
            "to_timestamp(seconds), epoch_ms(milliseconds) or strptime(text, format)",
            code="source.invalid",
        )
    local = f"timezone({literal(business)}, {moment})"
    hour = f"case when {known} then strftime({local}, 'hh%H:1') end"
    has_hours = source.hours and source.fills == "behavior"
    return f"cast({local} as date)", hour if has_hours else None


def _cell(expressions: Expressions, source: Source, column: Column) -> str:
    """The value of a column as text; NULL where the source does not give it."""
    text = source.columns.get(column.name)
    if text is None:
        seen_by_source = source.fills == IDENTITY and column.name == "source"
        return literal(source.name) if seen_by_source else "cast(null as varchar)"
    place = f"source {source.name}: columns.{column.name}"
    sql = expressions.sql(text, place)
    kind = expressions.kind(sql)
    if column.check == "id":
        require_exact(kind, text, place)
    if column.check == "yyyymmdd" and (kind == "DATE" or kind.startswith("TIMESTAMP")):
        return f"strftime({sql}, '%Y%m%d')"
    return f"cast({sql} as varchar)"


def _numbers_cell(numbers: Mapping[str, str], first: Sequence[str | None]) -> str:
    pairs = [pair for pair in first if pair]
    for key, sql in numbers.items():
        pairs.append(f"{literal(key + ':')} || cast(cast({sql} as double) as varchar)")
    return _joined(pairs)


def _texts_cell(texts: Mapping[str, str], first: Sequence[str | None]) -> str:
    """Texts with what would end a value replaced: spaces, colons and commas become ``_``."""
    pairs = [pair for pair in first if pair]
    for key, sql in texts.items():
        value = f"nullif(regexp_replace(trim(cast({sql} as varchar)), '[\\s:,]+', '_', 'g'), '')"
        pairs.append(f"{literal(key + ':')} || {value}")
    return _joined(pairs)


def _joined(pairs: list[str]) -> str:
    if not pairs:
        return "cast(null as varchar)"
    return f"nullif(concat_ws(' ', {', '.join(pairs)}), '')"
