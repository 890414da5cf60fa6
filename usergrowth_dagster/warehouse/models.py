"""SQL models: one SELECT a file with a yml beside it, loaded into a dependency graph.

A table name in FROM is the dependency. The yml gives description, grain, columns, tests, and which
days of each input an output day may read (the same day if it names none).
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property, lru_cache
from pathlib import Path

from usergrowth_dagster.plugins import PROBLEMS, folders_beside
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.macros import MACROS
from usergrowth_dagster.warehouse.meaning import columns_read, sql_meaning
from usergrowth_dagster.warehouse.model_files import (
    InputDaysKeys,
    ModelColumn,
    ModelError,
    UnitTestKeys,
    models_root,
    read_model_file,
)

DAILY_FOLDER, AS_OF_FOLDER = "dbt_like_models", "sql"
AS_OF_DATES = "as_of_dates"
RUN_SETTINGS = "run_settings"
USER = "user_id"
RUN_SETTING_NAMES = (
    "lookback_days",
    "history_days",
    "active_days",
    "churn_days",
    "label_horizon_days",
    "top_n",
)
_NO_CODE = re.compile(r"--[^\n]*|'(?:[^']|'')*'")
_READ = re.compile(r"\b(?:from|join)\s+([a-z_]\w*)\b(?!\s*[(.])", re.IGNORECASE)
_CTE = re.compile(r"\b([a-z_]\w*)\s+as\s+\(", re.IGNORECASE)
_OFFSET = re.compile(r"^(-?)([a-z_]+|\d+)(?:\s*([+-])\s*(\d+))?$")


def offset_days(expression: str | int, settings: Settings) -> int:
    """Days from the as-of date, of an expression such as ``-lookback_days`` or ``churn_days - 1``.

    Raises:
        ModelError: the expression is neither a number nor a setting's name with a number.
    """
    match = _OFFSET.match(str(expression).strip())
    if not match:
        raise ModelError(f"day offset {expression!r}: expected a number or ±setting ± number")
    sign, base, plus, extra = match.groups()
    value = int(base) if base.isdigit() else int(getattr(settings, base))
    value = -value if sign else value
    return value + (int(extra) if plus == "+" else -int(extra) if plus else 0)


@dataclass(frozen=True)
class Window:
    """Days [as_of + first, as_of + last] of an input.

    Rows that are ``read_once`` for all output days are not part of what the window means, so its
    text leaves that out.
    """

    first: str | int = 0
    last: str | int = 0
    read_once: bool = field(default=False, repr=False)

    def bounds(self, as_of: date, settings: Settings) -> tuple[date, date]:
        """First and last day, both included."""
        return (
            as_of + timedelta(days=offset_days(self.first, settings)),
            as_of + timedelta(days=offset_days(self.last, settings)),
        )


@dataclass(frozen=True)
class Snapshot:
    """The newest landed day of an input that is not after as_of + ``newest``."""

    newest: int = -1


InputDays = Window | Snapshot


@dataclass(frozen=True)
class Model:
    """One SQL model with what its yml says."""

    name: str
    folder: str
    sql: str
    description: str
    grain: tuple[str, ...]
    own_columns: tuple[ModelColumn, ...]
    inherit: tuple[str, ...]
    labels: tuple[str, ...]
    inputs: Mapping[str, InputDays]
    complete_with: Mapping[str, int | str]
    materialized: bool
    monthly: bool
    by_date: bool
    by_user: bool
    unit_tests: tuple[UnitTestKeys, ...]
    refs: frozenset[str] = field(default_factory=frozenset)
    daily: bool = False

    @cached_property
    def own_version(self) -> str:
        """Hash of all that decides what this model's rows are.

        Texts for people and tests of values do not: descriptions, comments, layout, meanings.
        """
        facts = {
            "sql": sql_meaning(self.sql),
            "columns": [(column.name, column.data_type) for column in self.own_columns],
            "grain": self.grain,
            "inherit": self.inherit,
            "inputs": {ref: str(days) for ref, days in self.inputs.items()},
            "complete_with": {table: str(offset) for table, offset in self.complete_with.items()},
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]

    @cached_property
    def own_settings(self) -> frozenset[str]:
        """The run settings that this model's SQL or its days name."""
        days = " ".join([*map(str, self.inputs.values()), *map(str, self.complete_with.values())])
        of_days = {name for name in RUN_SETTING_NAMES if name in days}
        return columns_read(self.sql, RUN_SETTINGS, RUN_SETTING_NAMES) | of_days


def _input_days(keys: InputDaysKeys) -> InputDays:
    if keys.snapshot is not None:
        return Snapshot(keys.snapshot)
    assert keys.first is not None and keys.last is not None
    return Window(keys.first, keys.last, keys.read_once)


def table_refs(sql: str) -> frozenset[str]:
    """Names of the tables that a SELECT reads after FROM and JOIN, its own CTEs left out.

    A parser would take a second of each start of the program for all models; a test holds what this
    finds against one.
    """
    bare = _NO_CODE.sub(" ", sql)
    return frozenset(_READ.findall(bare)) - frozenset(_CTE.findall(bare))


def read_model(sql_path: Path) -> Model:
    """Read one model from its SQL file and the yml beside it.

    Raises:
        ModelError: the yml is missing, breaks its format, or describes another model.
    """
    yml_path = sql_path.with_suffix(".yml")
    file = read_model_file(yml_path)
    (keys,) = file.models
    for named in (keys.name, *(case.model for case in file.unit_tests)):
        if named != sql_path.stem:
            raise ModelError(f"{yml_path}: describes the model {named!r}, not {sql_path.stem!r}")
    sql, meta = sql_path.read_text(encoding="utf-8"), keys.config.meta
    return Model(
        name=keys.name,
        folder=sql_path.parent.name,
        sql=sql,
        description=keys.description.strip(),
        grain=meta.grain,
        own_columns=keys.columns,
        inherit=meta.inherit,
        labels=meta.labels,
        inputs={table: _input_days(days) for table, days in meta.inputs.items()},
        complete_with=meta.complete_with,
        materialized=keys.config.materialized == "table",
        monthly=meta.monthly,
        by_date=meta.by_date,
        by_user=meta.by_user,
        unit_tests=file.unit_tests,
        daily=DAILY_FOLDER in sql_path.parts,
        refs=table_refs(sql) - {AS_OF_DATES, RUN_SETTINGS},
    )


class ModelGraph:
    """All models with the tables they start from.

    Args:
        models: the models by name.
        sources: DuckDB column types of the tables that no model makes, by table.
    """

    def __init__(
        self, models: Mapping[str, Model], sources: Mapping[str, Mapping[str, str]]
    ) -> None:
        self.models = dict(models)
        self.sources = {table: dict(columns) for table, columns in sources.items()}
        for model in self.models.values():
            for ref in model.refs:
                if ref not in self.models and ref not in self.sources:
                    raise ModelError(f"{model.name}.sql reads {ref!r}, which nothing makes")
            if strangers := set(model.labels) - self.columns(model.name).keys():
                raise ModelError(f"{model.name}.yml: labels: no column {', '.join(strangers)}")
            if model.by_user and not (model.materialized and USER in model.grain):
                raise ModelError(
                    f"{model.name}.yml: by_user: a table with {USER} in its grain only"
                )
            if model.monthly and (model.materialized or model.inputs or len(model.refs) != 1):
                raise ModelError(f"{model.name}.yml: monthly: a view of one table's same day only")
        self.order = tuple(self._sorted())
        for model in self.models.values():
            if model.by_date:
                self._check_by_date(model)

    def _check_by_date(self, model: Model) -> None:
        """Refuse a view by date whose dates cannot be made one after the other."""
        if model.materialized or model.monthly or "ds" not in model.grain:
            raise ModelError(f"{model.name}.yml: by_date: a view with ds in its grain only")
        for ref in model.refs - self.sources.keys():
            if not self.models[ref].by_date and self._reads_by_date(ref):
                raise ModelError(
                    f"{model.name}.yml: by_date: it reads {ref}, which is made after all views by "
                    "date; mark that as well"
                )

    def _reads_by_date(self, name: str) -> bool:
        """Whether a view reads a view by date, directly or through others."""
        return any(self.models[view].by_date for view in self.views(name))

    def _sorted(self) -> Iterator[str]:
        done: set[str] = set()
        active: list[str] = []

        def visit(name: str) -> Iterator[str]:
            if name in done or name not in self.models:
                return
            if name in active:
                raise ModelError(f"models depend on each other in a circle: {[*active, name]}")
            active.append(name)
            for ref in sorted(self.models[name].refs):
                yield from visit(ref)
            active.pop()
            done.add(name)
            yield name

        for name in sorted(self.models):
            yield from visit(name)

    def columns(self, name: str) -> dict[str, ModelColumn]:
        """Output columns of a model in the order of its yml, inherited ones first."""
        model = self.models[name]
        merged: dict[str, ModelColumn] = {}
        for parent in model.inherit:
            merged |= {k: v for k, v in self.columns(parent).items() if k not in merged}
        for column in model.own_columns:
            merged[column.name] = column
        return merged

    def types(self, name: str) -> dict[str, str]:
        """DuckDB types by column of a model or source table."""
        if name in self.sources:
            return self.sources[name]
        return {column.name: column.data_type for column in self.columns(name).values()}

    def views(self, name: str) -> list[str]:
        """Models that are not tables and that ``name`` reads, directly or through others."""
        wanted: set[str] = set()
        stack = [name]
        while stack:
            for ref in self.models[stack.pop()].refs:
                if ref in self.models and not self.models[ref].materialized and ref not in wanted:
                    wanted.add(ref)
                    stack.append(ref)
        return [model for model in self.order if model in wanted]

    def views_by_date(self, name: str) -> tuple[list[str], list[str], list[str]]:
        """The views that a model reads: those before its views by date, these, and the others.

        Monthly views are left out.
        """
        views = [view for view in self.views(name) if not self.models[view].monthly]
        dated = [view for view in views if self.models[view].by_date]
        after = [view for view in views if view not in dated and self._reads_by_date(view)]
        return [view for view in views if view not in {*dated, *after}], dated, after

    def views_of_users(self, name: str) -> list[str]:
        """The views with users that a model of users reads itself, where users may part."""
        model = self.models[name]
        views = [view for view in self.views(name) if not self.models[view].monthly]
        own = [view for view in views if view in model.refs and USER in self.models[view].grain]
        return own if model.by_user else []

    def passing_views(self, name: str) -> frozenset[str]:
        """Views by date that nothing but views by date reads: a date's rows go with the date."""
        before, dated, after = self.views_by_date(name)
        kept = frozenset().union(*(self.models[view].refs for view in [*before, *after, name]))
        return frozenset(dated) - kept

    def table_inputs(self, name: str) -> dict[str, list[InputDays]]:
        """Tables that a model reads, directly or through views, and which days of them."""
        return self._tables(self.direct_inputs(name), self.monthly_inputs(name))

    def inputs_at_once(self, name: str) -> dict[str, list[InputDays]]:
        """Tables of which a range of dates takes in the rows of all its dates together.

        Left out is what only passing views read, and rows that are read once for all dates.
        """
        passing = self.passing_views(name)
        inputs = self._tables(
            self._inputs(name, self._is_table, passing),
            self._inputs(name, self._is_monthly, passing),
        )
        return {
            table: [days for days in wanted if isinstance(days, Snapshot) or not days.read_once]
            for table, wanted in inputs.items()
        }

    def _tables(self, *inputs: Mapping[str, list[InputDays]]) -> dict[str, list[InputDays]]:
        """Inputs with the tables of monthly views in the place of these."""
        tables: dict[str, list[InputDays]] = {}
        for days_by_ref in inputs:
            for ref, wanted in days_by_ref.items():
                table = self.monthly_table(ref) if self._is_monthly(ref) else ref
                known = tables.setdefault(table, [])
                known += [days for days in wanted if days not in known]
        return dict(sorted(tables.items()))

    def direct_inputs(self, name: str) -> dict[str, list[InputDays]]:
        """Tables that a model reads other than through monthly views, and which days of them."""
        return self._inputs(name, self._is_table)

    def monthly_inputs(self, name: str) -> dict[str, list[InputDays]]:
        """Monthly views that a model reads, directly or through views, and which days of them."""
        return self._inputs(name, self._is_monthly)

    def monthly_table(self, view: str) -> str:
        """The one table that a monthly view reads."""
        (table,) = self.models[view].refs
        return table

    def _is_table(self, ref: str) -> bool:
        return ref in self.sources or self.models[ref].materialized

    def _is_monthly(self, ref: str) -> bool:
        return ref in self.models and self.models[ref].monthly

    def _inputs(
        self, name: str, is_wanted: Callable[[str], bool], left_out: frozenset[str] = frozenset()
    ) -> dict[str, list[InputDays]]:
        inputs: dict[str, list[InputDays]] = {}
        for reader in [*self.views(name), name]:
            model = self.models[reader]
            if model.monthly or reader in left_out:
                continue
            for ref in filter(is_wanted, sorted(model.refs)):
                days = model.inputs.get(ref, Window())
                if days not in inputs.setdefault(ref, []):
                    inputs[ref].append(days)
        return inputs

    def chain(self, name: str) -> tuple[str, ...]:
        """A model and the point-in-time tables that it is made of, inputs first.

        The tables whose columns it inherits come first, then what else it reads.
        """
        model = self.models[name]
        others = [ref for ref in self.order if ref in model.refs and ref not in model.inherit]
        upstream: list[str] = []
        for ref in (*model.inherit, *others):
            if ref in self.models and not self.models[ref].daily:
                upstream += [one for one in self.chain(ref) if one not in upstream]
        return (*upstream, name) if model.materialized else tuple(upstream)

    def code_version(self, name: str) -> str:
        """Hash of what a model and the views it reads mean; see :attr:`Model.own_version`."""
        parts = [self.models[view].own_version for view in [*self.views(name), name]]
        return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]

    def settings(self, name: str) -> list[str]:
        """The run settings that a model or a view it reads names."""
        named = (self.models[view].own_settings for view in [*self.views(name), name])
        return sorted(frozenset().union(*named))

    @property
    def tables(self) -> list[str]:
        """Models that are tables, inputs before outputs."""
        return [name for name in self.order if self.models[name].materialized]


@lru_cache(maxsize=1)
def load_graph() -> ModelGraph:
    """The project's models over the landed tables, and those that come with questions."""
    from usergrowth_dagster.data.contracts import CONTRACTS

    root = models_root()
    of_questions = folders_beside(PROBLEMS, AS_OF_FOLDER)
    models: dict[str, Model] = {}
    for folder in (root / DAILY_FOLDER, root / AS_OF_FOLDER, *of_questions):
        for path in sorted(folder.rglob("*.sql")):
            if path.parent.name == MACROS:
                continue
            model = read_model(path)
            if model.name in models:
                raise ModelError(f"{path}: another model has the name {model.name!r}")
            models[model.name] = model
    return ModelGraph(models, {c.raw_table: c.raw_types() for c in CONTRACTS.values()})
