"""Who was held out must not be learned: the draw is tested, and touches are no features."""

from datetime import date
from typing import Any

import numpy as np
import pytest
from uplift_frames import make_uplift

from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.encoding import KEYS
from usergrowth_dagster.learning.origin import MadeFrom
from usergrowth_dagster.learning.uplift.assignment import TOUCHES, foretold, touch_features
from usergrowth_dagster.learning.uplift.controls import strongest_features
from usergrowth_dagster.learning.uplift.curves import area, arms, curve, qini
from usergrowth_dagster.learning.uplift.gates import assignment_gate
from usergrowth_dagster.learning.uplift.learners import TLearner
from usergrowth_dagster.learning.uplift.metrics import evaluate_uplift
from usergrowth_dagster.learning.uplift.training import train_uplift
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.models import load_graph

NAMES = ["activity", "noise", "trait", "rare", "gaps", "touches"]
SHARE = 0.1
CONFIG = TrainingConfig(algorithm="uplift", op_target="sms", return_days=5, window_days=300)


def rounds(seed: int, *, persistent: bool, users: int = 1000, share: float = SHARE) -> Any:
    """Nine rounds of a text that changes nothing: features, returns, arms, chances, users."""
    rng = np.random.default_rng(seed)
    base, trait, rare = rng.beta(1.2, 4, users), rng.normal(size=users), rng.random(users) < 0.02
    once, touches = rng.random(users) < share, np.zeros(users)
    parts = []
    for _ in range(9):
        score = base + rng.normal(0, 0.08, users)
        i = np.flatnonzero(score > np.quantile(score, 0.6))
        held_out = (once if persistent else rng.random(users) < share)[i]
        columns = (rng.poisson(6 * base[i]), rng.normal(size=len(i)), trait[i], rare[i])
        gaps = np.where(trait[i] > 1, np.nan, base[i])
        x = np.column_stack([*columns, gaps, touches[i]])
        parts.append((x, rng.random(len(i)) < base[i], ~held_out, np.full(len(i), 1 - share), i))
        touches[i[~held_out]] += 1
    x, y, treated, chance, who = (
        np.concatenate(parts_of_rows) for parts_of_rows in zip(*parts, strict=True)
    )
    return x.astype(float), y.astype(float), treated.astype(float), chance, who


def test_a_persistent_holdout_is_caught_by_the_feature_that_tells_it() -> None:
    """A ranking of those who were texted before is taken for one of those whom a text moves."""
    for seed in range(5):
        x, _, treated, chance, who = rounds(seed, persistent=True)
        gate = assignment_gate(foretold(x, treated, chance, who, NAMES))
        assert not gate.passed
        assert "touches most" in gate.reason


@pytest.mark.parametrize(("persistent", "share"), [(False, 0.1), (False, 0.02), (True, 0.1)])
def test_a_true_draw_passes(persistent: bool, share: float) -> None:
    """A good training is refused: rows of a user held out for good taken for independent ones."""
    columns = slice(0, 5 if persistent else 6)  # without touches nothing tells a persistent one
    verdicts = []
    for seed in range(60):
        x, _, treated, chance, who = rounds(seed, persistent=persistent, users=300, share=share)
        verdicts.append(foretold(x[:, columns], treated, chance, who, NAMES))
    assert sum(not assignment_gate(one).passed for one in verdicts) <= 1
    assert sum(one.p < 0.05 for one in verdicts) <= 10  # 3 are expected, p of .001 for more than 9


def test_a_wrong_chance_is_caught_and_a_known_one_is_not() -> None:
    """Unequal chances that were recorded are no leak; a recorded mean of them is one."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(6000, 3))
    chance = 0.5 + 0.3 * (x[:, 1] > 0)
    treated = (rng.random(6000) < chance).astype(float)
    who = np.arange(6000)
    assert assignment_gate(foretold(x, treated, chance, who, NAMES)).passed
    wrong = assignment_gate(foretold(x, treated, np.full(6000, 0.65), who, NAMES))
    assert not wrong.passed
    assert "noise most" in wrong.reason


def test_a_trifle_in_a_huge_log_passes() -> None:
    """With rows enough everything is significant, and no model would ever be approved."""
    rng = np.random.default_rng(2)
    rows = 400_000
    x = rng.choice([-1.0, 1.0], size=(rows, 1))
    treated = (rng.random(rows) < 0.5 + 0.006 * x[:, 0]).astype(float)
    verdict = foretold(x, treated, np.full(rows, 0.5), np.arange(rows), NAMES)
    assert verdict.p < 0.001
    assert assignment_gate(verdict).passed


def test_a_prefix_without_controls_is_not_credited() -> None:
    """Each return of a treated row counted as the text's doing, where nobody is there to compare."""
    x, y, treated, chance, who = rounds(7, persistent=True, users=1000)
    touches = x[:, 5]
    late = touches > 0
    assert treated[late].all()
    rows = arms(y, treated, chance)
    assert qini(y, touches, treated, chance) > 0.3  # as it is, and as scikit-uplift has it
    assert abs(area(rows, touches, guarded=True)) < 0.05
    seen, value = curve(rows, touches, guarded=True)
    np.testing.assert_allclose(value, seen * value[-1] / seen[-1])
    judged = evaluate_uplift(rows, {"touches": touches}, who, resamples=60).metrics["touches"]
    assert judged["qini"].low < 0.02
    assert abs(judged["auuc"].value) < 0.05
    strongest = strongest_features(x, y, treated, chance, 1)[0]
    assert strongest != (5, 1)


def test_guarding_changes_nothing_where_both_arms_are_there() -> None:
    """A guard that bends the curve elsewhere makes another figure of a good ranking."""
    rng = np.random.default_rng(3)
    score, treated = np.arange(400.0), np.tile([1, 0], 200)
    y = rng.random(400) < 0.3
    rows = arms(y, treated)
    for kind in ("qini", "auuc"):
        plain, kept = curve(rows, score, kind), curve(rows, score, kind, guarded=True)
        np.testing.assert_array_equal(plain[1][2:], kept[1][2:])
        assert kept[1][1] == pytest.approx(kept[1][2] / 2)


def test_every_feature_made_from_touches_is_left_out() -> None:
    """A touch feature that is added to the SQL and reaches the model of effects unseen."""
    graph = load_graph()
    left_out = set(touch_features())
    assert {"touches_history", "touch_recency_days", "target_answer_rate"} <= left_out
    assert left_out < set(graph.columns("uplift_training"))
    assert not left_out & set(KEYS)
    views = {n for t in ("user_features", "user_item_features") for n in graph.views(t)}
    reading = {n for n in views if "stg_operation" in graph.table_inputs(n)}
    assert {n for n in reading if "stg_operation" in graph.models[n].refs} == {
        "user_touch_history", "user_item_pairs",
    }  # fmt: skip
    assert {n for n in views if "user_touch_history" in graph.models[n].refs} == {TOUCHES}
    assert set(graph.columns("user_item_pairs")) <= set(KEYS)  # which pairs, nothing of touches


def test_a_training_leaves_touches_out_and_judges_the_draw(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same people held out in every round; a feature of another name tells them all the same.

    Touches in the relation are no features of the model, are not asked for when people are scored,
    and nothing but the draw is judged; renamed they are caught by their new name.
    """
    monkeypatch.setattr("usergrowth_dagster.learning.uplift.choose.LEARNERS", (TLearner,))
    monkeypatch.setattr("usergrowth_dagster.learning.uplift.training.RESAMPLES", 60)
    drawn = "0.8 - 0.0 * u"
    make_uplift(engine, "drawn", effect="0", users=800, drawn=drawn)
    engine.run("""
        create table uplift_training as
        with once as (
            select u, (md5_number_lower(concat('h', u)) % 1000) < 800 as texted from range(800) a(u)
        )
        select d.* exclude (treated, propensity, target, channel),
            texted as treated, if(texted, 0.8, 0.2) as propensity,
            if(texted, 'sms', 'holdout') as target, if(texted, null, 'sms') as channel,
            if(texted, date_diff('day', date '2024-01-01', ds) // 7, 0) as touches_history,
            if(texted, map {'sms': 1.0}, null) as target_touches
        from drawn as d join once on user_id = concat('u', lpad(u::varchar, 6, '0'))
    """)

    def trained() -> Any:
        return train_uplift(
            engine,
            "uplift_training",
            CONFIG,
            date(2024, 6, 1),
            settings,
            made_from=MadeFrom(code_version="1"),
        )

    training = trained()
    gates = {gate.name: gate for gate in training.gates}
    assert gates["assignment"].passed, gates["assignment"].reason
    assert not any("touches" in name for name in training.importance)
    assert {"touches_history", "target_touches"} <= set(training.spec.ignored)
    assert not training.spec.mismatch(engine, "uplift_training").unseen_columns
    engine.run("alter table uplift_training rename touches_history to texts_before")
    gates = {gate.name: gate for gate in trained().gates}
    assert not gates["assignment"].passed
    assert "texts_before most" in gates["assignment"].reason
