"""Runs stages of a task, from landing files to the report, in this process.

    .venv/bin/python benchmarks/stages.py HOME STAGE...

Prints, as JSON, the rows that each stage made and the bytes that all wrote, spilled ones included.
The stages work on a home of :mod:`big_world`, in the order of :data:`STAGES`.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path

from big_world import DAY, DAYS, LATER, TASK

from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.control.tasks import task as one_task
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.build import Builder

FACTS = ("stg_user", "stg_item", "stg_behavior", "user_day", "user_item_day", "item_category")
KNOWN = [DAY - timedelta(days=ago) for ago in range(DAYS, 0, -1)]
SINCE = [DAY + timedelta(days=after) for after in range(LATER)]


def land(project: Project, days: Sequence[date] = KNOWN) -> int:
    """Landing files to accepted rows."""
    from usergrowth_dagster.warehouse.landing import land_days

    landed = [
        one
        for table in ("user", "item", "behavior")
        for one in land_days(project.settings, project.landing, project.warehouse, table, days)
    ]
    return sum(one.accepted for one in landed)


def facts(project: Project, days: Sequence[date] = KNOWN) -> int:
    """Staging and daily facts."""
    builds = Builder(project.settings, project.warehouse).build_with_inputs(FACTS, days)
    return sum(build.rows for build in builds.values())


def features(project: Project) -> int:
    """Features of all users as of the execution date."""
    built = Builder(project.settings, project.warehouse).build("user_features", [DAY])
    return built.rows


def training_set(project: Project) -> int:
    """Features and labels of the training's snapshots."""
    from usergrowth_dagster.training.features import build_training_set, training_days
    from usergrowth_dagster.training.train import training_config

    config = training_config(project, _task(project).spec)
    days, _ = training_days(project, config, DAY)
    return sum(build.rows for build in build_training_set(project, config, days))


def train(project: Project) -> int:
    """Fit, test and register the model; the best is approved whatever the gates say."""
    from usergrowth_dagster.training.models import vouch_for
    from usergrowth_dagster.training.train import train_one, training_config

    config = training_config(project, _task(project).spec)
    training = train_one(project, config, [], DAY)
    assert training.registered is not None
    ref = training.registered.ref
    assert ref.status == "approved", f"{ref.status}: {ref.failed_gates}"
    vouch_for(project, ref)
    rows: dict[str, dict[str, int]] = training.registered.summary["rows"]
    return sum(one["rows"] for one in rows.values())


def population(project: Project) -> int:
    """The upload to accepted rows."""
    from usergrowth_dagster.pipeline.populate import load_population

    return load_population(project, _task(project)).accepted


def score(project: Project) -> int:
    """Scores of the population."""
    from usergrowth_dagster.pipeline.score import score_task

    return score_task(project, _task(project)).scored


def decide(project: Project) -> int:
    """The decision."""
    from usergrowth_dagster.pipeline.decide import decide_task

    return sum(decide_task(project, _task(project)).outcomes.values())


def output(project: Project) -> int:
    """output.csv."""
    from usergrowth_dagster.pipeline.output import write_task_output

    return write_task_output(project, _task(project)).rows


def plan(project: Project) -> int:
    """The send plan in the ledger."""
    from usergrowth_dagster.pipeline.send import plan_task

    return plan_task(project, _task(project)).people


def later(project: Project) -> int:
    """The days after the decision."""
    return land(project, SINCE) + facts(project, SINCE)


def effects(project: Project) -> int:
    """Outcomes, and the effect."""
    from usergrowth_dagster.measure.effects import measure

    return sum(arm.users for arm in measure(project, _task(project)).arms)


def report(project: Project) -> int:
    """The report's page."""
    from usergrowth_dagster.measure.report import report_task

    return sum(arm.users for arm in report_task(project, _task(project)).effect.arms)


def why(project: Project) -> int:
    """What became of one person."""
    from usergrowth_dagster.explain.why import why

    return len(why(project, "u000000007").tasks)


STAGES: dict[str, Callable[[Project], int]] = {
    "land": land,
    "facts": facts,
    "features": features,
    "training set": training_set,
    "train": train,
    "population": population,
    "score": score,
    "decide": decide,
    "output": output,
    "plan": plan,
    "later days": later,
    "effects": effects,
    "report": report,
    "why": why,
}


def _task(project: Project) -> Task:
    return one_task(project.store, TASK)


def _written() -> int:
    """Bytes that this process has written so far."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


def main() -> None:
    """Run the stages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("stages", choices=list(STAGES), nargs="+", metavar="STAGE")
    given = parser.parse_args()
    rows = {stage: STAGES[stage](Project.open(given.home)) for stage in given.stages}
    print(json.dumps({"rows": rows, "written": _written()}))


if __name__ == "__main__":
    main()
