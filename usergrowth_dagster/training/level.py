"""The level of a task's probabilities, taken from the newest labels that are closed on its date."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.targets import target_called
from usergrowth_dagster.project import Project
from usergrowth_dagster.training.features import (
    bind_table,
    build_training_set,
    training_days,
)
from usergrowth_dagster.training.train import training_config
from usergrowth_dagster.warehouse.engine import open_engine

if TYPE_CHECKING:
    from usergrowth_dagster.learning.store import ModelRef

REACH_DAYS = 28  # of closed labels that are looked at where fewer hold too few rows


@dataclass(frozen=True)
class Level:
    """A shift of the log-odds of a model's scores; 0 where the setting is off.

    Attributes:
        shift: in logits.
        rows: labels it rests on; 0: none were there.
        first, last: their snapshots.
    """

    shift: float = 0.0
    rows: int = 0
    first: date | None = None
    last: date | None = None

    def __str__(self) -> str:
        """A sentence for a task's note; empty where nothing was moved."""
        if not self.rows:
            return ""
        return (
            f"the level of the scores was moved by {self.shift:+.3f} logits, to the "
            f"{self.rows:,} labels of {self.first} to {self.last}"
        )


def refreshed_level(project: Project, task: Task, model: "ModelRef") -> Level:
    """What brings a model's mean score on the newest closed labels to what came true.

    Only snapshots after the last label that the model was fitted on count. The snapshots are built
    where they are missing.
    """
    wanted = project.settings.refresh_level_days
    config = training_config(project, task.spec)
    if not wanted or not target_called(config.problem.target).levels:
        return Level()
    try:
        days, _ = training_days(project, config, task.execution_date)
    except UserError:  # no label is closed yet
        return Level()
    reach = timedelta(days=max(wanted, REACH_DAYS))
    days = [d for d in days if d > model.fit_last_label_day and d > days[-1] - reach]
    if not days:
        return Level()
    from usergrowth_dagster.learning.artifacts import load
    from usergrowth_dagster.learning.calibration import Held, level_of
    from usergrowth_dagster.learning.dataset import draw_sql, flat_rows, on_days

    build_training_set(project, config, days)
    loaded, table = load(model), config.problem.training_table()
    with open_engine(project.settings) as engine:
        bind_table(engine, project, table, days)
        where = f"{on_days(days)} and {config.rows_sql()}"
        rows = int(engine.value(f"select count(*) from {table} where {where}"))
        most = project.settings.max_training_rows
        if rows > most:  # whole users, each with the same chance
            where += f" and {draw_sql(project.settings)} < {1_000_000 * most // rows}"
        frame, keys = flat_rows(engine, table, loaded.spec, config, where)
    if not len(frame):
        return Level()
    label = keys.column("_label").to_numpy().astype("int64")
    day = keys.column("_ds").to_numpy().astype("datetime64[D]")
    held = Held(loaded.model.score(frame), label, day).newest(wanted)
    if not len(held.label):
        return Level()
    first, last = held.day.min().item(), held.day.max().item()
    return Level(level_of(held.score, held.label), len(held.label), first, last)
