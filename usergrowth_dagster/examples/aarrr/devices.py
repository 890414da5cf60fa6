"""The snapshot of devices that ad exchanges are answered by, for the users of a home."""

from datetime import date, timedelta

from usergrowth_dagster.acquisition.build import Built, build_snapshot
from usergrowth_dagster.examples.worlds._landing import folder, put
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.relation import bind_days

POLICY = """\
# Bid for devices of no household, and for households that stay away and are worth much.
salt: demo
ids: {oaid: oaid}
active_days: 30
score: {question: ltv}
control: {share: 0.1, answer: reject}
strategies:
  - {name: newcomers, device: unknown, on_failure: accept}
  - {name: lapsed, device: known, active: false, score_at_least: 100, factor: 1.5}
"""
"""What acquisition.yml says, unless a person has edited it."""


def snapshot_of(project: Project, day: date) -> Built:
    """Give every user a fictional device, and write the snapshot of a date.

    Args:
        project: the home, whose features of the date stand.
        day: the execution date.

    Raises:
        UserError: the home has no acquisition.yml, or it breaks its format.
    """
    with open_engine(project.settings) as engine:
        features = bind_days(
            engine, project.warehouse, "user_features", [day], {"user_id": "VARCHAR"}
        )
        users = engine.rows(f"select distinct user_id from {features} order by user_id")
    lines = ["user_id,id_type,id_value,source,time"]
    lines += [f"{user},oaid,device-of-{user},app," for (user,) in users]
    text = "\n".join([*lines, ""])
    before = day - timedelta(days=1)
    put(project.landing, f"{folder('identity', before)}/part-0.csv", text.encode())
    return build_snapshot(project, day)
