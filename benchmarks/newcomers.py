"""How near the question of new buyers comes to the best ranking there is.

The users are simulated and the chance of each is known, so the best possible capture is that of the
true chance on the same rows. Prints one table; give the folder of a home that does not exist yet.
"""

import argparse
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np

from usergrowth_dagster.examples.worlds.newcomers import (
    OBSERVED_DAYS,
    TRUTH,
    Newcomers,
    write_newcomers,
)
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.metrics import as_interval, evaluate
from usergrowth_dagster.learning.training import TrainedModels, train
from usergrowth_dagster.project import Project
from usergrowth_dagster.training.features import bind_table, build_training_set, training_days
from usergrowth_dagster.warehouse.build import Builder
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.landing import land_days

THURSDAY = date(2024, 1, 4)  # registered then, a user is decided on a Monday, as snapshots are
COHORTS_OPEN = 5  # whose labels are not closed on the last day
SHOWN = ("capture_10", "capture_20", "capture_40", "lift_10", "auc", "ece")
RESAMPLES = 500


def trained(home: Path, a_day: int, cohorts: int) -> TrainedModels:
    """Simulate weekly cohorts of new users, land them, and train on the closed ones."""
    days = 7 * (cohorts + COHORTS_OPEN)
    last = THURSDAY + timedelta(days=days - 1)
    settings = make_home(home, {"today": str(last), "start_date": str(THURSDAY)})
    project = Project(settings)
    write_newcomers(Newcomers(a_day, days, THURSDAY, every=7), project.landing)
    landed = [THURSDAY + timedelta(days=day) for day in range(days)]
    for table in ("user", "item", "behavior", "operation"):
        land_days(settings, project.landing, project.warehouse, table, landed)
    facts = ["stg_user", "stg_item", "stg_behavior", "stg_operation", "user_day", "user_item_day"]
    Builder(settings, project.warehouse).build_with_inputs(facts, landed)
    config = TrainingConfig.model_validate(
        {
            "algorithm": "new_user_purchase",
            "behaviors": ("buy",),
            "observed_days": OBSERVED_DAYS,
            "window_days": days,
        }
    )
    snapshots, _ = training_days(project, config, last)
    build_training_set(project, config, snapshots)
    table = config.problem.training_table()
    with open_engine(settings) as engine:
        bind_table(engine, project, table, snapshots)
        return train(engine, table, config, last, settings)


def main() -> None:
    """Train, and print the figures of the champion, the simple rules and the true chance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--a-day", type=int, default=600, help="users of each weekly cohort")
    parser.add_argument("--cohorts", type=int, default=16, help="cohorts with closed labels")
    asked = parser.parse_args()
    model = trained(asked.home, asked.a_day, asked.cohorts)
    known = dict(
        duckdb.execute(
            "select user_id, chance from read_parquet(?)", [str(asked.home / "truth" / TRUTH)]
        ).fetchall()
    )
    test = model.test
    scores = {kind: fitted.model.score(test.frame) for kind, fitted in model.models.items()}
    scores |= {"the true chance": np.array([known[user] for user in test.user])}
    evaluation = evaluate(test.label, scores, test.user, resamples=RESAMPLES)
    print(f"{len(test.label):,} users in the test slice, {test.label.mean():.1%} bought")
    for name in scores:
        figures = "  ".join(f"{one} {evaluation.metrics[name][one]}" for one in SHOWN)
        print(f"{name}{' (champion)' * (name == model.champion)}: {figures}")
    for metric in SHOWN[:3]:
        best = evaluation.draws["the true chance"][metric]
        share = evaluation.draws[model.champion][metric] / best
        value = evaluation.metrics[model.champion][metric].value
        reached = value / evaluation.metrics["the true chance"][metric].value
        print(f"{metric}: {as_interval(reached, share)} of the best possible")
    for part in model.parts:
        if part.dimension == "channel" and part.share is not None:
            print(f"{part.name}: {part.share} bought, bias {part.bias}, AUC {part.auc}")


if __name__ == "__main__":
    main()
