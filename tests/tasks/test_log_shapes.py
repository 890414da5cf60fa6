"""Logs of other shapes go through the whole chain of tables, with no setting changed."""

import random
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from chain_world import rows

from usergrowth_dagster.data.contracts import CONTRACTS, LANDING_TABLES
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.training.features import build_training_set, training_days
from usergrowth_dagster.warehouse.build import Builder
from usergrowth_dagster.warehouse.landing import land_days

START, DAYS, USERS = date(2019, 3, 1), 40, 25
Log = Callable[[random.Random, int], Iterator[tuple[str, str, str]]]


def chat(draw: random.Random, _day: int) -> Iterator[tuple[str, str, str]]:
    """Messages alone: no item, no number, no text."""
    for _ in range(draw.randrange(1, 4)):
        yield r"message,\N", r"\N", r"\N"


def invoices(draw: random.Random, _day: int) -> Iterator[tuple[str, str, str]]:
    """Lines of invoices: items, quantities, amounts, returns with a minus."""
    for _ in range(draw.randrange(1, 3)):
        quantity = draw.choice((1, 6, -2, 144))
        yield (
            f"buy,{draw.randrange(85000, 85040)}{draw.choice(('', 'A', '-é'))}",
            f"amount:{quantity * 2.55:.2f} quantity:{quantity}",
            "country:United_Kingdom",
        )


def ratings(draw: random.Random, _day: int) -> Iterator[tuple[str, str, str]]:
    """Ratings: an item, one number of any scale, a category of the moment."""
    yield f"rate,m{draw.randrange(30)}", f"rating:{draw.choice((0.5, 3, 5))}", r"\N"


def sessions(draw: random.Random, day: int) -> Iterator[tuple[str, str, str]]:
    """Game sessions: hours, minutes, levels, and many kinds of event."""
    hour = draw.randrange(24)
    yield r"session,\N", f"hh{hour:02d}:1 minutes:{draw.random() * 90:.3f}", r"\N"
    if draw.random() < 0.3:
        yield f"event_{draw.randrange(40)},level_{day % 9}", rf"hh{hour:02d}:{1 + day % 3}", r"\N"


def land(root: Path, log: Log) -> Project:
    """Write and land a log of behavior alone; users come and go."""
    project = Project(load_settings(root, start_date=START, memory_limit="1GB"))
    draw = random.Random(log.__name__)
    header = ",".join(CONTRACTS["behavior"].names)
    for number in range(DAYS):
        lines = [header]
        for user in range(USERS):
            if draw.random() < 0.08 + 0.7 * ((user * 7 + number // 9) % 3 == 0):
                lines += [f"{user:05d},{a},{b},{c}" for a, b, c in log(draw, number)]
        project.landing.write_bytes(
            f"behavior/ds={START + timedelta(number):%Y%m%d}/part-0.csv",
            ("\n".join(lines) + "\n").encode(),
        )
    days = [START + timedelta(number) for number in range(DAYS)]
    for table in LANDING_TABLES:
        landed = land_days(project.settings, project.landing, project.warehouse, table, days)
        assert sum(day.quarantined for day in landed) == 0
    return project


@pytest.mark.parametrize("log", [chat, invoices, ratings, sessions])
def test_from_log_to_training_set(log: Log, tmp_path: Path) -> None:
    """A table that lacks items, amounts, users or touches breaks a model, or gives no rows."""
    root = tmp_path / "home"
    project = land(root, log)
    days = [START + timedelta(number) for number in range(DAYS)]
    builder = Builder(project.settings, project.warehouse)
    facts = [
        m
        for m in builder.graph.tables
        if builder.graph.models[m].folder in ("staging", "facts", "marts")
    ]
    built = builder.build_with_inputs([m for m in facts if m != "churn_summary"], days)
    assert built["user_day"].rows > 100
    execution = START + timedelta(DAYS)
    config = TrainingConfig(algorithm="churn")
    wanted, _ = training_days(project, config, execution)
    assert len(wanted) >= 4
    tables = {build.model: build for build in build_training_set(project, config, wanted)}
    assert all(not test.failing for build in tables.values() for test in build.tests)
    training = rows(
        root, "churn_training", columns="ds, user_id, churned, events_30d, kind_events_30d"
    )
    assert len(training) > 50
    assert {row[2] for row in training} == {True, False}
    assert all(row[1] in {f"{user:05d}" for user in range(USERS)} for row in training)  # zeros kept
    kinds = {key for row in training for key in (row[4] or {})}
    assert kinds if log is not sessions else "other" in kinds


def test_an_empty_day_and_an_empty_log(tmp_path: Path) -> None:
    """A day without rows, or a file with a header alone, stops the days after it."""
    project = Project(load_settings(tmp_path / "home", start_date=START))
    header = (",".join(CONTRACTS["behavior"].names) + "\n").encode()
    days = [START + timedelta(number) for number in range(3)]
    for day in days:
        project.landing.write_bytes(f"behavior/ds={day:%Y%m%d}/empty.csv", header)
    land_days(project.settings, project.landing, project.warehouse, "behavior", days)
    builder = Builder(project.settings, project.warehouse)
    for model in builder.graph.tables:
        if builder.graph.models[model].folder in ("staging", "facts", "features"):
            assert builder.build(model, days).rows == 0
    assert project.warehouse.row_counts("user_features") == {}
