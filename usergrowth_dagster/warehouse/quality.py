"""The tests that a model's yml declares, run on new rows before they are published."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.model_files import ModelColumn
from usergrowth_dagster.warehouse.models import ModelGraph


@dataclass(frozen=True)
class DataTest:
    """One test of a model's rows.

    Args:
        name: the check's name.
        condition: SQL that holds for the rows at fault; empty for a test of ``unique``.
        blocking: keeps the rows out of the table; the others warn.
        unique: columns whose values no other row may have together.
    """

    name: str
    condition: str
    blocking: bool
    unique: tuple[str, ...] = ()


@dataclass(frozen=True)
class TestResult:
    """How many rows of a build failed a test."""

    name: str
    failing: int
    blocking: bool

    @property
    def passed(self) -> bool:
        """Whether no row failed."""
        return self.failing == 0


def model_tests(graph: ModelGraph, model: str) -> list[DataTest]:
    """All tests of a model: its grain, then column by column."""
    grain = graph.models[model].grain
    tests = []
    if grain:
        tests.append(DataTest("grain_is_unique", "", True, tuple(grain)))
    for column in graph.columns(model).values():
        tests.extend(_column_tests(column))
    return tests


def _column_tests(column: ModelColumn) -> Iterator[DataTest]:
    name = identifier(column.name)
    for test in column.data_tests:
        if test.not_null is not None:
            blocking = test.not_null.config.severity == "error"
            yield DataTest(f"{column.name}_not_null", f"{name} is null", blocking)
        if test.accepted_values is not None:
            blocking = test.accepted_values.config.severity == "error"
            values = test.accepted_values.arguments.values
            listed = ", ".join(
                literal(value) if isinstance(value, str) else str(value) for value in values
            )
            yield DataTest(f"{column.name}_accepted", f"{name} not in ({listed})", blocking)
        if test.accepted_range is not None:
            blocking = test.accepted_range.config.severity == "error"
            limits = test.accepted_range.arguments
            low = [f"{name} < {limits.min_value}"] if limits.min_value is not None else []
            high = [f"{name} > {limits.max_value}"] if limits.max_value is not None else []
            yield DataTest(f"{column.name}_in_range", " or ".join(low + high), blocking)


def run_tests(engine: Engine, relation: str, tests: Sequence[DataTest]) -> list[TestResult]:
    """Count the rows of ``relation`` that fail each test, in one pass unless a key comes twice."""
    if not tests:
        return []
    counts = engine.rows(f"select {', '.join(map(_count, tests))} from {relation}")[0]
    return [
        TestResult(
            test.name,
            _repeated(engine, relation, test) if test.unique and count else count,
            test.blocking,
        )
        for test, count in zip(tests, counts, strict=True)
    ]


def _count(test: DataTest) -> str:
    """An aggregate over all rows: how many are at fault, or 0 where no key can come twice.

    Keys that are equal have equal hashes: as many hashes as rows are as many keys. Hashes take a
    quarter of the time of the keys themselves.
    """
    if test.unique:
        return f"count(*) - count(distinct hash({', '.join(map(identifier, test.unique))}))"
    return f"count(*) filter (where {test.condition})"


def _repeated(engine: Engine, relation: str, test: DataTest) -> int:
    """Rows whose key another row has, too."""
    keys = ", ".join(map(identifier, test.unique))
    return int(
        engine.value(
            "select coalesce(sum(same), 0) from "
            f"(select count(*) as same from {relation} group by {keys} having count(*) > 1) as keys"
        )
    )


def refuse_failures(model: str, days: str, results: list[TestResult]) -> None:
    """Keep rows that fail a blocking test out of the table.

    Raises:
        UserError: some blocking test failed; what was in the table stays.
    """
    bad = [result for result in results if result.blocking and not result.passed]
    if bad:
        named = "; ".join(f"{result.name}: {result.failing:,} rows" for result in bad)
        raise UserError(
            f"{model} of {days} is not published, the earlier rows stay: {named}; "
            "mend the landing files of its inputs and run the day again",
            code="table.refused",
        )
