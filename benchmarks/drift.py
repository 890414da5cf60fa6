"""What the calibration map does where activity falls to half within a month, and where it does not.

Makes a simulated world, trains for churn at dates before, within and after the fall, and compares
the ways to keep the map: on the test slice, and on the four weeks after the training.

    python benchmarks/drift.py FOLDER [--users 2000] [--steady]
"""

import argparse
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from usergrowth_dagster.examples.worlds import synthetic
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.learning.calibration import BEFORE, RAW, Held, level_of, shift_level
from usergrowth_dagster.learning.config import TrainingConfig, snapshots
from usergrowth_dagster.learning.dataset import flat_rows, on_days
from usergrowth_dagster.learning.metrics import evaluate
from usergrowth_dagster.learning.model import positive_share
from usergrowth_dagster.learning.training import LEVEL_DAYS, TrainedModels, train
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.training.features import bind_table, build_training_set
from usergrowth_dagster.warehouse.build import Builder
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.landing import land_days

START, DAYS, FADES_FROM = date(2017, 1, 2), 240, 182
TRAINED = (180, 196, 210, 224)  # days of the world
AHEAD = 28
WEEK = timedelta(days=7)
FACTS = ("stg_user", "stg_item", "stg_behavior", "stg_operation", "user_day", "user_item_day")


def make(home: Path, users: int, fades: bool) -> Settings:
    """A home with the facts of a world."""
    first = START - timedelta(days=7)
    today = {"today": str(START + timedelta(days=DAYS)), "start_date": str(first)}
    settings = make_home(home, today)
    world = synthetic.SyntheticWorld(
        users=users, days=DAYS, start=START, items=60, fades_from=FADES_FROM if fades else None
    )
    project = Project(settings)
    synthetic.write_landing(world, project.landing)
    days = [first + timedelta(days=i) for i in range(DAYS + 7)]
    for table in ("user", "item", "behavior", "operation"):
        land_days(settings, project.landing, project.warehouse, table, days)
    Builder(settings, project.warehouse).build_with_inputs(list(FACTS), days)
    return settings


def after(
    engine: Engine, config: TrainingConfig, found: TrainedModels, day: date
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Labels, scores by way, and users of the weeks after a training."""
    weeks = [day + timedelta(days=d) for d in range(AHEAD)]
    where = on_days([d for d in weeks if d.weekday() == 0])
    frame, keys = flat_rows(engine, "churn_training", found.spec, config, where)
    model = found.models[found.champion].model
    closed = found.closed
    rows = Held(closed.score(found.test.frame), found.test.label, found.test.day)
    newest = rows.newest(LEVEL_DAYS)
    ways = {
        RAW: positive_share(model.pipeline, frame),
        BEFORE: model.score(frame),
        "map fitted again at D": closed.score(frame),
    }
    level = level_of(newest.score, newest.label)
    ways["map fitted again at D, level refreshed"] = shift_level(closed.score(frame), level)
    label = keys.column("_label").to_numpy().astype(int)
    return label, ways, keys.column("_user").to_numpy()


def show(title: str, figures: dict, shown: tuple[str, ...]) -> None:
    print(f"\n{title}")
    for way, found in figures.items():
        print(f"  {way:42}", *(f"{name} {found[name]!s:24}" for name in shown))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--steady", action="store_true")
    asked = parser.parse_args()
    home = asked.folder / ("steady" if asked.steady else "fading")
    settings = load_settings(home) if home.exists() else make(home, asked.users, not asked.steady)
    settings = replace_threads(settings)
    project = Project(settings)
    config = TrainingConfig(algorithm="churn", window_days=170)
    shown = ("log_loss", "ece", "ace")
    for number in TRAINED:
        day = START + timedelta(days=number)
        past = snapshots(config, day, START).days
        ahead = [day + timedelta(days=d) for d in range(AHEAD)]
        ahead = [
            d
            for d in ahead
            if d.weekday() == 0 and d + timedelta(days=7) <= START + timedelta(days=DAYS)
        ]
        build_training_set(project, config, [*past, *ahead])
        with open_engine(settings) as engine:
            bind_table(engine, project, "churn_training", [*past, *ahead])
            found = train(engine, "churn_training", config, day, settings)
            params = found.models[found.champion].params
            print(f"\n== trained at day {number} ({day}): {found.champion}")
            print(f"   map {params['calibration']}, on the {params.get('calibrated_on')}")
            show("on the test slice", found.upkeep, shown)
            label, ways, users = after(engine, config, found, day)
            later = evaluate(label, ways, users, resamples=500)
            show("on the four weeks after", later.metrics, shown)


def replace_threads(settings: Settings) -> Settings:
    return settings.model_copy(update={"threads": min(settings.threads, 2)})


if __name__ == "__main__":
    main()
