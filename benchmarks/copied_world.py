"""A world with the people of a smaller one several times over, for the stages from training on.

Features and a training set of a million users take hours of a busy machine. The stages behind them
read as many rows of a copy. Landing files of the population and of the days from the execution date
on are those of a world of that size.
"""

import shutil
from collections.abc import Collection
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from big_world import DAY, BigWorld, make_big_world

from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.models import load_graph

_BEFORE = 28
"""Days before the execution date whose events an effect is adjusted by."""
_COPY = "format('u{:09d}', cast(user_id[2:] as bigint) + copy * {users}) as user_id"


def copy_world(
    home: Path, known: BigWorld, times: int, *, trained: bool, **settings: Any
) -> BigWorld:
    """Write a home with the people of another one ``times`` over.

    Args:
        home: a folder that is not there.
        known: a world that all stages up to training have run on.
        times: how often each of its people is there.
        trained: whether its model is taken over; else its training set is copied.
        settings: of the home.
    """
    make_big_world(home, known.users * times, since=0, **settings)
    project, other = Project.open(home), Project.open(known.home)
    recent = [DAY - timedelta(days=ago) for ago in range(_BEFORE, 0, -1)]
    wanted: dict[str, Collection[date]] = {"user_features": [DAY], "stg_behavior": recent}
    wanted["stg_user"] = wanted["stg_item"] = other.warehouse.days("stg_user")
    if trained:
        shutil.copytree(known.home / "mlflow", home / "mlflow")
    else:
        wanted["churn_training"] = other.warehouse.days("churn_training")
    for table, days in wanted.items():
        for day in sorted(days):
            _copy_day(project, other, table, day, known.users, times)
    return BigWorld(home, known.users * times, known.events * times)


def _copy_day(
    project: Project, other: Project, table: str, day: date, users: int, times: int
) -> None:
    files = other.warehouse.files(table, first=day, last=day).get(day)
    if not files:
        return
    types = load_graph().types(table)

    def select(engine: Engine) -> str:
        engine.bind_files("known", files, types)
        if "user_id" not in types:
            return "from known"
        copied = _COPY.replace("{users}", str(users))
        return (
            f"select * exclude (copy) replace ({copied}) "
            f"from known cross join range({times}) as copies (copy)"
        )

    with open_engine(project.settings) as engine:
        sql = select(engine)
        project.warehouse.replace(table, lambda: engine.stream(sql), days=[day])
