"""Scores made on Spark: the model goes to the rows, and only their keys and scores come back."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.artifacts import LoadedModel, load
from usergrowth_dagster.learning.batch_scoring import COUNTS, BatchScorer, gathered
from usergrowth_dagster.learning.scoring import COPIED, require_columns, score_apart
from usergrowth_dagster.learning.store import ModelRef
from usergrowth_dagster.pipeline.scoring_rows import ScoringRows, joined_sql
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.model_rows import TableDays
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.relation import Relation, bind_batches
from usergrowth_dagster.warehouse.spark_dialect import quoted, spark_type, to_spark
from usergrowth_dagster.warehouse.spark_session import open_spark, spark_errors
from usergrowth_dagster.warehouse.spark_tables import arrow_tables, spark_root, table_frame

if TYPE_CHECKING:
    from pyspark.sql.connect.dataframe import DataFrame

TABLES = ("population", "user_features", "user_item_features")
"""What the rows of a task are joined from, in the order of :func:`joined_sql`."""


class RowScorer(Protocol):
    """Scores the rows of a relation, as :func:`score_apart` does in this process."""

    def __call__(
        self,
        engine: Engine,
        model: ModelRef | LoadedModel,
        relation: str,
        *,
        max_unseen_share: float,
        level: float = 0.0,
    ) -> Relation:
        """Score them; see :func:`score_apart`."""


def row_scorer(project: Project, task: Task, rows: ScoringRows, *, pairs: bool) -> RowScorer:
    """What scores the rows of a task, as the setting ``engine`` says.

    Args:
        project: the home.
        task: the task.
        rows: its population and features.
        pairs: whether the rows that are scored have features of pairs.
    """
    if project.settings.engine != "spark":
        return score_apart
    users, *of_pairs = rows.features
    return SparkScorer(project, task, (rows.population, users, *(of_pairs if pairs else ())))


@dataclass(frozen=True)
class SparkScorer:
    """Scores the rows of a task on a Spark Connect server, by ``mapInArrow``.

    Attributes:
        project: the home.
        task: the task.
        joined: the relations that its rows are joined from, in the order of :data:`TABLES`.
    """

    project: Project
    task: Task
    joined: tuple[Relation, ...]

    def __call__(
        self,
        engine: Engine,
        model: ModelRef | LoadedModel,
        relation: str,
        *,
        max_unseen_share: float,
        level: float = 0.0,
    ) -> Relation:
        """As :func:`score_apart`; the relation says which columns the rows have.

        Raises:
            UserError: Spark has failed, or what is read was written anew meanwhile.
        """
        import pyarrow as pa

        loaded = load(model) if isinstance(model, ModelRef) else model
        types = engine.describe(f"select * from {relation}")
        require_columns(loaded, types)
        keys = {key: types[key] for key in COPIED if key in types}
        listed = ", ".join(map(identifier, keys))
        of_keys = engine.arrow(f"select {listed} from {relation} limit 0").schema
        schema = of_keys.append(pa.field("score", pa.float64()))
        with self._frame() as frame:
            scored = frame.mapInArrow(sent(loaded, level), _spark_schema(keys))
            batches = gathered(loaded, arrow_tables(scored), schema, max_unseen_share)
            return bind_batches(engine, "model_scores", schema, batches)

    @contextmanager
    def _frame(self) -> "Iterator[DataFrame]":
        """The rows to be scored, on the server."""
        settings, warehouse = self.project.settings, self.project.warehouse
        graph = load_graph()
        names = TABLES[: len(self.joined)]
        with (
            spark_root(settings, warehouse.storage) as root,
            open_spark(settings) as spark,
            spark_errors(f"scores of {self.task.task_id}"),
        ):
            for name, relation in zip(names, self.joined, strict=True):
                read = self._read(name, relation)
                frame = table_frame(spark, root, read, graph.types(name))
                if name == TABLES[0]:
                    frame = frame.where(f"task_id = {literal(self.task.task_id)}")
                frame.createOrReplaceTempView(name)
            columns = {name: tuple(graph.types(name)) for name in names}
            yield spark.sql(to_spark(joined_sql(*names), columns))

    def _read(self, table: str, relation: Relation) -> TableDays:
        """The table's day at the version that the relation was bound at.

        Raises:
            UserError: the day has other files now.
        """
        day = self.task.execution_date
        version, landed = self.project.warehouse.pinned(table)
        files = landed.get(day, [])
        if table == TABLES[0]:
            files = [path for path in files if f"/task_id={self.task.task_id}/" in path]
        if set(files) != set(relation.files):
            raise UserError(
                f"{table} of {day} was written while {self.task.task_id} was scored; run it again",
                code="task.undecided",
            )
        return TableDays(table, version, landed, frozenset({day} if files else ()))


def sent(model: LoadedModel, level: float) -> BatchScorer:
    """What goes to the workers: without the address of MLflow, which may hold a password."""
    return BatchScorer(replace(model, ref=replace(model.ref, tracking_uri="")), level)


def _spark_schema(keys: Mapping[str, str]) -> str:
    """The columns that :class:`BatchScorer` makes, as Spark declares them."""
    columns = {name: spark_type(kind) for name, kind in keys.items()}
    columns |= {"score": "DOUBLE", COUNTS: "ARRAY<BIGINT>"}
    return ", ".join(f"{quoted(name)} {kind}" for name, kind in columns.items())
