"""The rows that are scored: a task's population with the features of its date."""

from dataclasses import dataclass

from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.relation import Relation, bind_days, bind_query


def bind_population(engine: Engine, project: Project, task: Task) -> Relation:
    """The accepted rows of a task's upload."""
    columns = load_graph().types("population")
    days = [task.execution_date]
    return bind_days(engine, project.warehouse, "population", days, columns, task_id=task.task_id)


@dataclass(frozen=True)
class ScoringRows:
    """What is scored: the rows of a population whose users have features.

    Attributes:
        population: all rows; those without features get no score.
        features: the tables that the features come from, each as of the date.
        response: rows for the model of the campaign's question.
        effects: rows for a model of effects; None where there is none.
    """

    population: Relation
    features: tuple[Relation, ...]
    response: Relation
    effects: Relation | None = None

    @property
    def feature_files(self) -> list[str]:
        """The data files of the features."""
        return [path for table in self.features for path in table.files]


def bind_scoring_rows(
    engine: Engine,
    project: Project,
    task: Task,
    population: Relation,
    config: TrainingConfig,
    *,
    effects: bool = False,
) -> ScoringRows:
    """Join a population with the features of its date, of users and where asked of pairs.

    Args:
        engine: holds the population.
        project: the home.
        task: the task.
        population: its rows.
        config: of the model that scores.
        effects: whether a model of effects scores too; it reads features of pairs.
    """
    users = _features(engine, project, task, "user_features")
    if not effects and not config.problem.pairs:
        rows = _joined(engine, "scoring_rows", population, users)
        return ScoringRows(population, (users,), rows)
    pairs = _features(engine, project, task, "user_item_features")
    of_response = pairs if config.problem.pairs else None
    return ScoringRows(
        population=population,
        features=(users, pairs),
        response=_joined(engine, "scoring_rows", population, users, of_response),
        effects=_joined(engine, "effect_rows", population, users, pairs) if effects else None,
    )


def _features(engine: Engine, project: Project, task: Task, table: str) -> Relation:
    columns = load_graph().types(table)
    return bind_days(engine, project.warehouse, table, [task.execution_date], columns)


def _joined(
    engine: Engine,
    kind: str,
    population: Relation,
    users: Relation,
    pairs: Relation | None = None,
) -> Relation:
    of = [population, users] if pairs is None else [population, users, pairs]
    return bind_query(engine, kind, joined_sql(*map(str, of)), of=of)


def joined_sql(population: str, users: str, pairs: str | None = None) -> str:
    """The SELECT that joins a population with features of users and, if given, of pairs.

    Args:
        population: name of the relation, quoted where it must be, as are the others.
        users: features, one row a user.
        pairs: features, one row a user and item; a row without them has NULL there.
    """
    extra, join = "", ""  # of USING, Spark leaves the key out of a star
    if pairs is not None:
        extra = ", x.* exclude (ds, user_id, item_id)"
        join = f" left join {pairs} as x on x.user_id = p.user_id and x.item_id = p.item_id"
    return (
        f'select p."row", p.item_id, f.*{extra} from {population} as p '
        f"inner join {users} as f on f.user_id = p.user_id{join}"
    )
