"""Unit tests of SQL models as their yml declares them: given rows, expected rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from usergrowth_dagster import quoting
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.duckdb_rows import bind_settings
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.model_files import ModelError
from usergrowth_dagster.warehouse.models import AS_OF_DATES, RUN_SETTING_NAMES, ModelGraph

Row = Mapping[str, Any]


@dataclass(frozen=True)
class UnitTest:
    """One example: run settings, rows of each input, and the rows that must come out."""

    model: str
    name: str
    settings: Mapping[str, int]
    given: Mapping[str, Sequence[Row]]
    expect: Sequence[Row]


def unit_tests(graph: ModelGraph) -> list[UnitTest]:
    """All examples of a graph's models."""
    return [
        UnitTest(
            model=name,
            name=case.name,
            settings=case.overrides.vars,
            given={given.input: given.rows for given in case.given},
            expect=case.expect.rows,
        )
        for name, model in graph.models.items()
        for case in model.unit_tests
    ]


def literal(value: Any, kind: str) -> str:
    """A value of a yml as a DuckDB literal of a type."""
    if value is None:
        return f"cast(null as {kind})"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_scalar(k)}: {_scalar(v)}" for k, v in value.items())
        return f"cast(map {{{pairs}}} as {kind})"
    return f"cast({_scalar(value)} as {kind})"


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return quoting.literal(str(value))


def bind_rows(engine: Engine, name: str, rows: Sequence[Row], types: Mapping[str, str]) -> None:
    """Make the table ``name`` from rows; columns that a row leaves out are NULL.

    Raises:
        ModelError: a row names a column that the table does not have.
    """
    columns = ", ".join(f"{quoting.identifier(column)} {kind}" for column, kind in types.items())
    engine.run(f"create or replace table {name} ({columns})")
    for row in rows:
        if extra := set(row) - set(types):
            raise ModelError(f"unit test rows of {name}: no columns {sorted(extra)}")
        values = ", ".join(literal(row.get(column), kind) for column, kind in types.items())
        engine.run(f"insert into {name} values ({values})")


def run_unit_test(graph: ModelGraph, case: UnitTest, settings: Settings) -> list[str]:
    """Run an example; the differences, none when it holds.

    Columns that an expected row leaves out may be anything.

    Raises:
        ModelError: rows are given of a table that the model does not read, or with a column that
            the table does not have.
    """
    values = {name: int(getattr(settings, name)) for name in RUN_SETTING_NAMES}
    refs = graph.models[case.model].refs
    if unread := set(case.given) - refs - {AS_OF_DATES}:
        raise ModelError(f"{case.model}: unit test {case.name!r}: reads no {sorted(unread)}")
    with open_engine(settings) as engine:
        bind_rows(engine, AS_OF_DATES, case.given.get(AS_OF_DATES, ()), {"as_of": "DATE"})
        bind_settings(engine, {**values, **case.settings})
        for ref in refs:
            bind_rows(engine, ref, case.given.get(ref, ()), graph.types(ref))
        engine.run(f"create table _output as {graph.models[case.model].sql}")
        made = engine.value("select count(*) from _output")
        wrong = [] if made == len(case.expect) else [f"{made} rows, not {len(case.expect)}"]
        by_columns: dict[tuple[str, ...], list[Row]] = {}
        for row in case.expect:
            by_columns.setdefault(tuple(row), []).append(row)
        for columns, rows in by_columns.items():
            types = {column: graph.types(case.model)[column] for column in columns}
            bind_rows(engine, "_expected", rows, types)
            body = ", ".join(f'cast("{column}" as {kind})' for column, kind in types.items())
            missing = f"select * from _expected except all select {body} from _output"
            wrong += [f"missing: {row}" for row in engine.rows(missing)]
        return wrong
