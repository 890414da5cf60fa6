"""Runs the demo, then every question of every stage, and writes and prints the table."""

import os
from pathlib import Path

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.examples.aarrr.ads import ads_line
from usergrowth_dagster.examples.aarrr.journey import DATASET, finish_asking, journey_lines
from usergrowth_dagster.examples.aarrr.new_users import new_user_lines
from usergrowth_dagster.examples.aarrr.table import in_order, show_table, write_table
from usergrowth_dagster.examples.datasets import example
from usergrowth_dagster.examples.demo import Stages, run_demo
from usergrowth_dagster.examples.screen import Screen
from usergrowth_dagster.homes.home import make_home, prepare_dagster
from usergrowth_dagster.project import Project

NEW_USERS, ADS = "new-users", "ads"
"""Folders of the homes of simulated people, beside the table."""
_PLACES = ("STORAGE", "LANDING", "DATABASE_URL", "MLFLOW_TRACKING_URI", "MLFLOW_ARTIFACTS")
"""Settings of where a home's state is."""


def run_every_stage(home: Path | None, dataset: str, screen: Screen, gateway: str = "") -> None:
    """Run the demo and then what it leaves out; a second run finds everything up to date.

    Raises:
        UserError: another data set, a place for all homes in the environment, a home that holds
            something else, or a step failed.
    """
    if dataset != DATASET:
        raise UserError(
            f"--all: its campaigns are for --dataset {DATASET}, not for {dataset!r}",
            code="command.invalid",
        )
    for name in (f"USERGROWTH_{place}" for place in _PLACES):
        if os.environ.get(name):
            raise UserError(
                f"--all: {name} is one place for all homes, and simulated people need homes of "
                "their own; unset it",
                code="setting.invalid",
            )
    chosen = example(dataset, 0)
    settings = make_home(home, chosen.settings)
    finish_asking(Project(settings), chosen)
    run_demo(home, dataset, 0, screen, gateway)
    stages = Stages(screen)
    screen.say("\nEvery stage:")
    lines = journey_lines(Project(settings), chosen, stages)
    folder = settings.home / "demo"
    try:
        with stages.stage("new users", "Simulate new users in a home of their own, and ask there"):
            lines += new_user_lines(folder / NEW_USERS)
        with stages.stage("ads", "Simulate devices that an ad exchange asks about, and measure"):
            lines.append(ads_line(folder / ADS))
    finally:
        prepare_dagster(settings.home)
    ordered = in_order(lines)
    show_table(ordered, screen)
    for path in write_table(folder, ordered):
        screen.say(f"Table: {path}")
