"""A home of the synthetic world with its training set, for the rows that learn and score."""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from usergrowth_dagster.examples.worlds.synthetic import SyntheticWorld, write_landing
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.training.features import build_training_set, training_days
from usergrowth_dagster.warehouse.build import Builder
from usergrowth_dagster.warehouse.landing import land_days

START = date(2017, 1, 2)
FACTS = ("stg_user", "stg_item", "stg_behavior", "stg_operation", "user_day", "user_item_day")


@dataclass(frozen=True)
class Learned:
    """A home whose churn training set is built.

    Attributes:
        settings: of the home.
        project: the home.
        execution_date: the date that the training is as of.
        config: of the training.
        days: snapshots of the training.
    """

    settings: Settings
    project: Project
    execution_date: date
    config: TrainingConfig
    days: list[date]


def make_learned(home: Path, users: int, days: int) -> Learned:
    """Simulate a world, land it, and build facts and training set."""
    first, last = START - timedelta(days=7), START + timedelta(days=days - 1)
    values = {"today": str(last), "start_date": str(first), "fictional_numbers": True}
    settings = make_home(home, values)
    project = Project(settings)
    write_landing(SyntheticWorld(users=users, days=days, start=START, items=60), project.landing)
    landed = [first + timedelta(days=i) for i in range((last - first).days)]
    for table in ("user", "item", "behavior", "operation"):
        land_days(settings, project.landing, project.warehouse, table, landed)
    Builder(settings, project.warehouse).build_with_inputs(list(FACTS), landed)
    config = TrainingConfig(algorithm="churn", window_days=days - 30)
    wanted, _ = training_days(project, config, last)
    build_training_set(project, config, wanted)
    return Learned(settings, project, last, config, wanted)
