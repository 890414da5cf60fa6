"""The table by stage: every question has a line, and a line says what was measured or why not."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from chain_world import D, World, cli, copy_home, errors, rows, succeeded, write_campaign

from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import load_campaign
from usergrowth_dagster.control.codes import ReviewStatus
from usergrowth_dagster.control.review import all_reviews
from usergrowth_dagster.examples.aarrr import journey, new_users
from usergrowth_dagster.examples.aarrr.category import Category
from usergrowth_dagster.examples.aarrr.department import department_line
from usergrowth_dagster.examples.aarrr.recommendation import recommendation_line
from usergrowth_dagster.examples.aarrr.table import (
    Figure,
    Line,
    in_order,
    write_table,
)
from usergrowth_dagster.examples.aarrr.trained import trained_line
from usergrowth_dagster.examples.aarrr.wallet import AHEAD, BEFORE, wallet_line
from usergrowth_dagster.examples.datasets import example
from usergrowth_dagster.examples.demo import apply_campaigns
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.learning.problems import problems
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.stages import STAGES
from usergrowth_dagster.training.questions import question_of
from usergrowth_dagster.training.train import train_all

DATA = "a small world"
CATEGORY = Category(D, "category", "c03", "buy", "amount")


def line(stage: str, note: str = "", **figures: Figure) -> Line:
    return Line(stage, f"what of {stage}|?", DATA, "AUC", note=note, **figures)  # type: ignore[arg-type]


def test_lines_go_by_stage_and_keep_their_cells(tmp_path: Path) -> None:
    """Guards against a table in the order of the work, and a bar in a cell that breaks its row."""
    figure = Figure("LightGBM", 0.8, 0.75, 0.85)
    lines = in_order([line(stage, figure=figure) for stage in reversed(STAGES)])
    assert [one.stage for one in lines] == list(STAGES)
    lines[1] = replace(lines[1], figure=None, note="nobody was asked")
    data, page = write_table(tmp_path / "demo", lines)
    text = page.read_text("utf-8").splitlines()
    assert len(text) == 2 + len(STAGES)
    assert text[2] == (
        "| acquisition | what of acquisition\\|? | a small world | AUC | "
        "0.800 [0.750, 0.850] (LightGBM) |  |"
    )
    assert "| not measured: nobody was asked |" in text[3]
    assert [one["stage"] for one in json.loads(data.read_text("utf-8"))] == list(STAGES)


def test_every_question_has_a_line_and_a_label_that_can_close(tmp_path: Path) -> None:
    """Guards against a question that the table forgets, and slices that outlast the data."""
    chosen = example(journey.DATASET, 0)
    texts = {**chosen.campaigns, **journey.asking(chosen).campaigns, **new_users.campaign_texts(40)}
    asked = set()
    for name, text in texts.items():
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        spec = load_campaign(path)
        question = question_of(load_settings(tmp_path), spec)
        asked.add(question.name)
        if spec.training.end_date is not None and name not in chosen.campaigns:
            closed = chosen.execution_date - spec.training.end_date
            assert closed.days >= question.horizon_days, name
    assert asked | {"uplift"} == set(problems())
    assert {problem.words.stage for problem in problems().values()} <= set(STAGES)


def test_a_trained_question_shows_its_figure_beside_the_best_rule(world: World) -> None:
    """Guards against figures of another version or metric, and a naive order that is no rival."""
    project = Project(load_settings(world.decided))
    shown = trained_line(project, "care", DATA)
    summary = json.loads(succeeded(cli(world.decided, "models", "show", "churn", "1", "--json")))
    metrics = summary["summary"]["metrics"]
    champion = metrics[summary["summary"]["champion"]]["auc"]
    assert shown.figure is not None and shown.naive is not None
    assert shown.figure == Figure(
        shown.figure.order, champion["value"], champion["low"], champion["high"]
    )
    assert shown.naive.value == max(metrics[one]["auc"]["value"] for one in ("recency", "rfm"))
    assert (shown.stage, shown.data, shown.measure) == ("retention", DATA, "AUC")
    assert shown.question == "`churn`, 7 days: who is about to fall silent"


def test_a_question_without_a_model_says_why(world: World, tmp_path: Path) -> None:
    """Guards against an empty cell: what failed, and what is held back, is a sentence."""
    home = copy_home(world.decided, tmp_path / "home")
    project = Project(load_settings(home))
    asked = {"algorithm": "{kind: ltv, amount: amount, days: 180}", "selection": "{top_n: 9}"}
    apply_campaign(
        project.store, load_campaign(write_campaign(home, "half-a-year", **asked)), "ann"
    )
    assert trained_line(project, "half-a-year", DATA).note == "no version has been trained"
    train_all(project, "ltv", D)
    failed = trained_line(project, "half-a-year", DATA)
    assert failed.figure is None and "label" in failed.note, failed.note
    assert failed.cells[4] == f"not measured: {failed.note}"
    succeeded(cli(home, "models", "reject", "churn", "1", "--why", "calls everybody"))
    assert trained_line(project, "care", DATA).note == "rejected"


def test_buyers_of_a_category_beside_naive_orders(world: World, tmp_path: Path) -> None:
    """Guards against a job that reads the date itself, other kinds of behavior, or other items."""
    project = Project(load_settings(copy_home(world.landed, tmp_path / "home")))
    shown = department_line(project, CATEGORY, DATA)
    written = (project.settings.home / "demo/affinity/category/interactions.csv").read_text("utf-8")
    bought = rows(world.landed, "stg_behavior", "behavior = 'buy'", "user_id, item_id, ds")
    assert len(written.splitlines()) == 1 + len(bought)
    items = {
        row.split(",")[0]
        for row in (project.settings.home / "demo/affinity/category/items.csv")
        .read_text("utf-8")
        .splitlines()
        if row.endswith(",c03")
    }
    snapshot = rows(world.landed, "stg_item", "kvs_str['category'] = 'c03'", "distinct item_id")
    assert items == {item for (item,) in snapshot}
    assert shown.stage == "revenue" and "who buys from c03" in shown.question
    assert shown.figure is not None or "not enough to learn" in shown.note


def test_the_share_of_wallet_is_that_of_plain_python(world: World) -> None:
    """Guards against days counted twice or of the date, and a share of items instead of amounts."""
    shown = wallet_line(Project(load_settings(world.landed)), CATEGORY, DATA)
    within = {
        item for (item,) in rows(world.landed, "stg_item", "kvs_str['category'] = 'c03'", "item_id")
    }
    spent: dict[str, list[float]] = {}
    bought = rows(world.landed, "stg_behavior", "behavior = 'buy'", "user_id, item_id, ds, amounts")
    for user, item, day, amounts in bought:
        back = (D - day).days - AHEAD
        if -AHEAD < back <= BEFORE:  # days before the snapshot; 0 and less are ahead of it
            sums = spent.setdefault(user, [0.0, 0.0, 0.0, 0.0])
            at = 0 if back > 0 else 2
            sums[at + 1] += amounts["amount"]
            sums[at] += amounts["amount"] * (item in within)
    both = np.array([one for one in spent.values() if one[1] > 0 and one[3] > 0])
    real, own = both[:, 2] / both[:, 3], both[:, 0] / both[:, 1]
    everyone = both[:, 0].sum() / both[:, 1].sum()
    assert shown.figure is not None and shown.naive is not None
    assert shown.figure.value == pytest.approx(np.abs(own - real).mean())
    assert shown.naive.value == pytest.approx(np.abs(everyone - real).mean())
    assert shown.figure.low is not None and shown.figure.high is not None
    assert shown.figure.low < shown.figure.value < shown.figure.high
    few = wallet_line(
        Project(load_settings(world.landed)), replace(CATEGORY, behavior="login"), DATA
    )
    assert few.figure is None and "0 users spent in the 90 days" in few.note


def test_recommendations_are_written_and_judged(world: World, tmp_path: Path) -> None:
    """Guards against an edited recommend.yml that is overwritten, and a naive order that is ours."""
    home = copy_home(world.landed, tmp_path / "home")
    (home / "recommend.yml").write_text("behaviors: [buy]\nlookback_days: 60\ntop: 7\n")
    project = Project(load_settings(home))
    shown = recommendation_line(project, D, DATA, asked=150)
    assert (shown.stage, shown.measure) == ("activation", "NDCG@10")
    assert shown.figure is not None and shown.naive is not None and shown.naive.low is not None
    assert shown.naive.low <= shown.naive.value < 1 and shown.naive.order == "popularity"
    assert max(rank for (rank,) in rows(home, "recommendations", f"ds = '{D}'", "rank")) == 7
    (home / "recommend.yml").write_text("behaviors: [buy]\nlookback_days: 2\nslice_days: 1\n")
    few = recommendation_line(project, D - timedelta(days=1), DATA)
    assert few.figure is None and "no user has taken 3 items in the 2 days" in few.note


def test_all_is_refused_where_it_would_mislead(world: World) -> None:
    """Guards against campaigns of one data set asked of another, and homes that share a database."""
    shared = {"USERGROWTH_DATABASE_URL": "postgresql://127.0.0.1:1/none"}
    refused: list[tuple[tuple[str, ...], dict[str, str], str]] = [
        (("--dataset", "synthetic"), {}, "are for --dataset completejourney, not for 'synthetic'"),
        (("--users", "50"), {}, "leave --users and --campaigns out"),
        ((), shared, "USERGROWTH_DATABASE_URL is one place for all homes"),
    ]
    for arguments, extra, words in refused:
        (sentence,) = errors(cli(world.decided, "demo", "--all", *arguments, **extra))
        assert words in sentence, sentence


def test_a_run_that_ended_before_its_texts_were_approved_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a second run that stops in the demo, at a text which the first one applied."""
    chosen = example(journey.DATASET, 0)
    project = Project(make_home(tmp_path / "home", chosen.settings))
    journey.finish_asking(project, chosen)
    assert all_reviews(project.store) == []

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("usergrowth_dagster.control.review.review", killed)
        apply_campaigns(project, journey.asking(chosen))
    assert {one.status for one in all_reviews(project.store)} == {ReviewStatus.REVIEWING}
    journey.finish_asking(project, chosen)
    assert {one.status for one in all_reviews(project.store)} == {ReviewStatus.APPROVED}
    project.store.close()
