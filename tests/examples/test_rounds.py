"""Campaign rounds: what their last page says, and two small ones through the whole chain."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from usergrowth_dagster.cli import app
from usergrowth_dagster.control.campaign import parse_campaign
from usergrowth_dagster.effects.result import Estimate
from usergrowth_dagster.examples.rounds.figures import Learned, Round, Truth, trend_of
from usergrowth_dagster.examples.rounds.page import render_rounds, round_table, trend_sentence
from usergrowth_dagster.examples.rounds.plan import RoundPlan

PLAN = RoundPlan(2_000, 10, 1)
TRUTH = Truth(
    population=900,
    chosen=500,
    texted=400,
    explored=20,
    messages=400,
    cost=18.0,
    effect=0.01,
    returns=4.0,
    explored_returns=0.1,
    best_returns=60.0,
)


def made(returns: list[float]) -> list[Round]:
    """Rounds in which our texts brought so many, beside a fixed policy that brings two each."""
    return [
        Round(
            number=number,
            day=PLAN.day(number).isoformat(),
            chosen_by="threshold",
            ranking="",
            ours=replace(TRUTH, returns=earned, effect=earned / 400),
            fixed=replace(TRUTH, returns=2.0 + number % 2, explored=0),
            measured=Estimate(earned / 400, earned / 400 - 0.05, 0.055, 0.5),
            adjusted=None,
            verdict="no_effect_shown",
        )
        for number, earned in enumerate(returns, 1)
    ]


def test_a_rise_is_claimed_only_where_there_is_one() -> None:
    """A page that says "rises" whatever the rounds came to, or of a value that fell: the lead does."""
    rising, level = made([1, 3, 5, 6, 9, 11, 14, 15, 18, 20]), made([9, 2, 7, 4, 8, 8, 2, 5, 7, 4])
    up, none = trend_of(rising), trend_of(level)
    assert up.rises and up.p_value is not None and up.p_value < 0.001
    assert up.ours_first == pytest.approx(2 * (1 + 3 + 5 + 6 + 9) / 2_000)
    assert up.fixed_last == pytest.approx(2 * 12 / 2_000)
    assert not none.rises
    falling = [
        replace(
            one,
            ours=replace(one.ours, returns=30.0 - n),
            fixed=replace(one.fixed, returns=30.0 - 2 * n),
        )
        for n, one in enumerate(made([1] * 10))
    ]
    sentence = trend_sentence(falling, trend_of(falling), "CNY")
    assert trend_of(falling).rises and sentence.startswith("Our lead over the fixed threshold")
    assert "value a message, rose: ours" in trend_sentence(rising, up, "CNY")
    assert "value a message, did not rise: ours" in trend_sentence(level, none, "CNY")
    few = trend_of(made([1, 9]))
    assert few.p_value is None and not few.rises
    assert trend_sentence(made([1, 9]), few, "CNY").startswith("Too few rounds to show a trend")
    for rounds, trend in ((rising, up), (level, none)):
        page = render_rounds(PLAN, rounds, trend, [], "CNY")
        assert ("our lead a message rises</h1>" in page) == trend.rises


def test_the_page_stands_alone_and_shows_every_round() -> None:
    """A page that loads something, or leaves a round, an interval or a lost gate out."""
    rounds = made([1, 3, 5, 6, 9, 11, 14, 15, 18, 30])
    learned = [Learned("2017-06-16", 1, "<b>", "rejected", "uplift", "No ranking is better.")]
    page = render_rounds(PLAN, rounds, trend_of(rounds), learned, "CNY")
    assert not re.search(r"(?:src|href)=\"(?!data:,|#)", page) and "url(http" not in page.lower()
    assert page.count("<svg") == 3 and "<script" not in page
    for one in rounds:
        assert f"{one.number}, {one.day}" in page
    assert "9 of 10 intervals hold the true effect." in page  # the last one's bound is too low
    assert "&lt;b&gt;" in page and "<td>rejected</td><td>uplift</td>" in page
    title, header, lines = round_table(rounds, "CNY")
    assert len(lines) == 10 and all(len(line) == len(header) for line in lines) and "CNY" in title


def test_both_policies_begin_alike() -> None:
    """The fixed policy is given a worse start, so that ours looks better."""
    ours, fixed = (parse_campaign(text) for text in (PLAN.ours(1), PLAN.fixed(1)))
    assert ours.selection.fallback is not None
    assert ours.selection.fallback.threshold == fixed.selection.threshold
    for part in ("algorithm", "training", "holdout", "template", "effect", "contact"):
        assert getattr(ours, part) == getattr(fixed, part)
    assert PLAN.fixed(1) == PLAN.fixed(10)
    world = PLAN.world(0.045)
    assert world.texts_until is not None
    last_own = world.texts_until - 1 + world.return_days
    assert last_own < world.day_of(PLAN.day(1))  # nobody has two texts in one window
    assert (PLAN.day(2) - PLAN.day(1)).days > world.return_days
    longest = RoundPlan(2_000, 40, 1)
    assert longest.world(0.045) == world and world.day_of(longest.day(41)) == world.days
    assert longest.ours(1) == PLAN.ours(1)  # rounds can be added


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--campaigns", "2"], "only the synthetic world can answer texts"),
        (["--dataset", "synthetic", "--campaigns", "0"], "from 1 to 40 rounds can be run"),
        (
            ["--dataset", "synthetic", "--campaigns", "2", "--users", "9"],
            "rounds need at least 2000 users",
        ),
    ],
)
def test_impossible_rounds_are_refused(tmp_path: Path, given: list[str], sentence: str) -> None:
    """A home is made, and fails minutes later."""
    home = tmp_path / "home"
    result = CliRunner().invoke(app, ["demo", "--home", str(home), *given])
    assert sentence in f"{result.output}{result.exception}"
    assert not home.exists()
