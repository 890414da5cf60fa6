"""The jobs: land days, train models, decide an execution date."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import dagster as dg

from usergrowth_dagster.defs.executors import executor
from usergrowth_dagster.learning.problems import problems
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.models import load_graph

INGEST = "ingest"
TRAIN = "train"
LABELS = "labels"
FACTS = "facts"
DECIDE = "decide"
CHOOSE = "choose"
MEASURE = "measure"
IDENTITY = "identity"
"""Job and group of persons; a home that knows them makes them before it decides."""

TRAININGS = 2
"""Steps at a time of a job that trains models."""

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
DAILY = "usergrowth/daily_execution_date"
"""Tag of the morning's ingest: the execution date to decide when it has succeeded."""


def model_assets() -> list[str]:
    """The assets of the questions' models."""
    return [f"{name}_model" for name in problems()]


def training_tables() -> list[str]:
    """The tables that the questions' training rows are made of, and those rows."""
    graph = load_graph()
    chains = (graph.chain(problem.training_table()) for problem in problems().values())
    return sorted(set().union(*chains))


_MISSING_MODELS = {"ops": {name: {"config": {"when": "missing"}} for name in model_assets()}}

JOB_CONFIG: dict[str, dict[str, Any]] = {
    DECIDE: _MISSING_MODELS,
    CHOOSE: _MISSING_MODELS,
    MEASURE: {"ops": {"effects": {"config": {"when": "gained"}}}},
}
"""Run config that a job has unless a run is given another."""


def range_tags(first: date, last: date) -> dict[str, str]:
    """Tags that make one run work on the execution dates [first, last]."""
    return {RANGE_START: first.isoformat(), RANGE_END: last.isoformat()}


@dataclass(frozen=True)
class JobDays:
    """The days that the daily run of an execution date lands: the last few, up to D - 1."""

    first: date
    last: date


def ingest_days(execution_date: date, catch_up_days: int, start_date: date) -> JobDays:
    """Days to land in the morning of an execution date, so that late files are taken in too."""
    last = execution_date - timedelta(days=1)
    return JobDays(max(start_date, last - timedelta(days=catch_up_days)), max(start_date, last))


def build_jobs(settings: Settings) -> list[Any]:
    """All jobs."""
    # Steps of the UI's runs are processes of their own, and a training may fill its memory limit.
    trains = executor(settings, TRAININGS)
    scored = dg.AssetSelection.assets(
        "population", "user_features", "user_item_features", *model_assets()
    )
    return [
        dg.define_asset_job(
            INGEST,
            selection=(
                dg.AssetSelection.groups("landing", "staging", "facts")
                - dg.AssetSelection.assets("population")
            )
            | dg.AssetSelection.assets("daily_activity"),
            description="Land days and bring their facts up to date.",
        ),
        dg.define_asset_job(
            FACTS,
            selection=dg.AssetSelection.groups("staging", "facts")
            | dg.AssetSelection.assets("daily_activity"),
            description="Facts of what has landed; for the days beside one that could not land.",
        ),
        dg.define_asset_job(
            LABELS,
            selection=dg.AssetSelection.assets(
                *training_tables(),
                "churn_summary",
            ),
            description="Features, labels and training sets of days whose labels are complete.",
        ),
        dg.define_asset_job(
            TRAIN,
            executor_def=trains,
            selection=dg.AssetSelection.assets(*model_assets()),
            description="Train the models that campaigns ask for, as of an execution date.",
        ),
        dg.define_asset_job(
            DECIDE,
            executor_def=trains,
            selection=scored | dg.AssetSelection.groups(IDENTITY, "audience", "messaging"),
            config=JOB_CONFIG[DECIDE],
            description="Score, decide and batch the tasks of an execution date; a model is "
            "trained only where a task has none.",
        ),
        dg.define_asset_job(
            CHOOSE,
            executor_def=trains,
            selection=scored | dg.AssetSelection.groups(IDENTITY, "audience"),
            config=JOB_CONFIG[CHOOSE],
            description="Score and decide the tasks of an execution date as the job decide does, "
            "but plan and send nothing.",
        ),
        dg.define_asset_job(
            MEASURE,
            selection=dg.AssetSelection.groups("effects"),
            config=JOB_CONFIG[MEASURE],
            description="Measure what the texts brought back, and write the reports: for tasks "
            "whose windows have gained days.",
        ),
    ]
