"""Lists within a record of a source: each of their elements becomes a row, as does each of its ids.

A record whose list is empty or absent keeps one row, marked by :data:`EMPTY`, so that it can be
counted; it does not land.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.sources.definition import Source
from usergrowth_dagster.sources.expressions import Expressions
from usergrowth_dagster.sources.files import INEXACT
from usergrowth_dagster.warehouse.engine import Engine

EMPTY = "usergrowth_empty"
"""Column of the rows read where a source has lists: whether a list of the record is empty."""


IDS = "usergrowth_id"
"""Column of the rows read where a source has ids: ``id_type`` and ``id_value`` of one of them."""


@dataclass(frozen=True)
class Elements:
    """The lists of a source.

    Attributes:
        columns: DuckDB type of each column that other expressions see, the elements among them.
        lists: by the name of an element, the SQL of its list; each sees the elements before it.
    """

    columns: Mapping[str, str]
    lists: Mapping[str, str]

    def rows(self, relation: str) -> str:
        """The rows of a relation, one for each element; those of a source without lists as is."""
        for number, (name, sql) in enumerate(self.lists.items()):
            absent = f"coalesce(len({sql}), 0) = 0"
            marked = f"{EMPTY} or {absent}" if number else absent
            star = f"* exclude ({EMPTY})" if number else "*"
            relation = (
                f"(select {star}, {marked} as {EMPTY}, unnest(case when {absent} then [null] "
                f"else {sql} end) as {identifier(name)} from {relation} as records)"
            )
        return relation


def elements_of(engine: Engine, source: Source, columns: Mapping[str, str]) -> Elements:
    """Check the lists of a source.

    Args:
        engine: parses the expressions.
        source: the source.
        columns: DuckDB type of each column of the source's records.

    Raises:
        UserError: an expression breaks a rule or is no list, or a name is taken.
    """
    seen, lists = dict(columns), {}
    for name, text in source.each.items():
        place = f"source {source.name}: each.{name}"
        _check_name(engine, name, seen, place)
        expressions = Expressions(engine, seen)
        sql = expressions.sql(text, place)
        kind = expressions.kind(sql)
        if kind == "JSON":
            sql = f"try_cast({sql} as json[])"  # another value of JSON is no list: NULL
        elif not kind.endswith("[]"):
            raise UserError(
                f"{place}: {text!r} is a {kind}, not a list; a column that holds JSON is one under "
                "read.nested",
                code="source.invalid",
            )
        lists[name] = f"({sql})"
        seen[name] = expressions.kind(f"({sql})[1]")
    if source.ids:
        lists[IDS] = _ids_sql(engine, source, seen)
        seen[IDS] = "STRUCT(id_type VARCHAR, id_value VARCHAR)"
    return Elements(seen, lists)


def _ids_sql(engine: Engine, source: Source, columns: Mapping[str, str]) -> str:
    """The list of the ids of a record that have a value."""
    expressions, ids = Expressions(engine, columns), []
    for name, text in source.ids.items():
        place = f"source {source.name}: ids.{name}"
        sql = expressions.sql(text, place)
        require_exact(expressions.kind(sql), text, place)
        value = f"nullif(trim(cast({sql} as varchar)), '')"
        ids.append(f"{{'id_type': {literal(name)}, 'id_value': {value}}}")
    return f"list_filter([{', '.join(ids)}], lambda one: one.id_value is not null)"


def require_exact(kind: str, text: str, place: str) -> None:
    """Refuse an id that is a number with decimals.

    Raises:
        UserError: it is one.
    """
    if kind in INEXACT:
        raise UserError(
            f"{place}: {text!r} is a {kind}, which writes 13800000000 as 1.38e+10 and loses digits "
            "of longer ids; keep ids as text or whole numbers where the file is made",
            code="source.invalid",
        )


def _check_name(engine: Engine, name: str, taken: Mapping[str, str], place: str) -> None:
    """Refuse a name that expressions cannot tell from a column, or cannot hold."""
    if name.casefold() in {column.casefold() for column in taken}:
        raise UserError(
            f"{place}: there is a column {name!r} already; give the element another name",
            code="source.invalid",
        )
    reserved = engine.value(
        "select count(*) from duckdb_keywords() where keyword_category = 'reserved' "
        f"and keyword_name = {literal(name.casefold())}"
    )
    if reserved:
        raise UserError(
            f"{place}: {name} is a word of SQL; give the element another name",
            code="source.invalid",
        )
