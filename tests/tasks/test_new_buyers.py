"""A campaign that chooses new users by the chance that they buy, on users whose chance is known."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from chain_world import approve, rows, write_campaign, write_people

from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import load_campaign
from usergrowth_dagster.control.tasks import task
from usergrowth_dagster.examples.worlds.newcomers import TRUTH, Newcomers, write_newcomers
from usergrowth_dagster.explain.replay import replay_task
from usergrowth_dagster.explain.why import why
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.learning.artifacts import read_artifacts, read_card
from usergrowth_dagster.pipeline.decide import decide_task
from usergrowth_dagster.pipeline.populate import load_population
from usergrowth_dagster.pipeline.score import score_task
from usergrowth_dagster.project import Project
from usergrowth_dagster.training.train import train_all
from usergrowth_dagster.warehouse.build import Builder
from usergrowth_dagster.warehouse.landing import land_days

THURSDAY = date(2024, 1, 4)  # registered then, a user is decided on a Monday, as snapshots are
D = date(2024, 4, 29)
WORLD = Newcomers(a_day=250, days=(D - THURSDAY).days, start=THURSDAY, every=7)
FACTS = ("stg_user", "stg_item", "stg_behavior", "stg_operation", "user_day", "user_item_day")


def _landed(home: Path) -> Project:
    """A home with the world's days landed, and facts and features made."""
    values = {"today": str(D), "start_date": str(THURSDAY), "simulated_people": True}
    project = Project(make_home(home, values))
    write_newcomers(WORLD, project.landing)
    days = [THURSDAY + timedelta(days=n) for n in range(WORLD.days)]
    for table in ("user", "item", "behavior", "operation"):
        land_days(project.settings, project.landing, project.warehouse, table, days)
    builder = Builder(project.settings, project.warehouse)
    builder.build_with_inputs(list(FACTS), days)
    builder.build_with_inputs(["user_features"], [D])
    return project


def _captured(score: Any, chance: Any) -> float:
    """Share of all expected buyers among the 40 % with the highest scores."""
    first = np.argsort(-score, kind="stable")[: int(0.4 * len(score))]
    return float(chance[first].sum() / chance.sum())


def test_a_campaign_chooses_by_the_chance_of_a_first_purchase(tmp_path: Path) -> None:
    """Guards against a cohort, mask or label that is off, which a known chance shows.

    The score of the newest cohort has to rank nearly as well as the true chance does.
    """
    home = tmp_path / "home"
    project = _landed(home)
    truth = duckdb.execute(
        "select user_id, registered, chance, early from read_parquet(?)",
        [str(home / "truth" / TRUTH)],
    ).fetchall()
    newest = D - timedelta(days=4)
    people = [row for row in truth if row[1] >= newest - timedelta(days=7)]
    lines = (f"{user},gift,+999{n:010d},Member" for n, (user, *_) in enumerate(people))
    write_people(home, "welcome", ["user_id,item_id,phone,name", *lines])
    algorithm = "{kind: vip, behaviors: [buy], observed_days: 3}"
    path = write_campaign(
        home,
        "welcome",
        algorithm=algorithm,
        execution_date=str(D),
        training="{window_days: 116}",
        selection="{top_n: 80}",
    )
    apply_campaign(project.store, load_campaign(path), "ann")
    approve(home, "welcome")
    (training,) = train_all(project, "new_user_purchase", D)
    assert training.registered is not None, training.skipped
    load_population(project, task(project.store, "welcome"))
    score_task(project, task(project.store, "welcome"))
    decide_task(project, task(project.store, "welcome"))

    trained = rows(home, "new_user_purchase_training", "true", "ds, tenure_days")
    assert set(trained) == {(ds, 4) for ds, _ in trained}
    assert max(trained)[0] == D - timedelta(days=28), "the last label that is closed"
    decided = rows(home, "decisions", "true", "user_id, outcome, score")
    assert len(decided) == len(people)
    outside = {user for user, outcome, _ in decided if outcome == "not_in_question"}
    asked = {user for user, registered, _, early in people if registered == newest and not early}
    assert outside == {user for user, *_ in people} - asked
    chance = {user: value for user, _, value, _ in people}
    score, real = np.array([(s, chance[u]) for u, _, s in decided if u in asked]).T
    best, reached = _captured(real, real), _captured(score, real)
    assert 0.7 < best < 0.85 and reached >= 0.95 * best, (reached, best)
    selected = [s for _, outcome, s in decided if outcome == "selected"]
    assert len(selected) == 80
    assert min(selected) >= max(s for _, outcome, s in decided if outcome == "not_in_top_n")

    (answer,) = why(project, min(outside), campaign="welcome").tasks
    steps = {step.question: step.answer for step in answer.steps}
    assert steps["registered 4 days before and has not bought"] == "no"
    summary, _ = read_artifacts(training.registered.ref)
    channels = [part for part in summary["parts"] if part["dimension"] == "channel"]
    assert {"organic", "search", "referral", "ads"} <= {part["name"] for part in channels}
    assert "untouched" in read_card(training.registered.ref)
    (replayed,) = replay_task(project, "welcome")
    assert replayed.state == "equal", replayed.sentence
