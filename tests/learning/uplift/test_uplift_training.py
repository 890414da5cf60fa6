"""A model of effects from rows to a registered version, and the gates that keep a bad one out."""

import json
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from uplift_frames import make_uplift

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.artifacts import load
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.origin import MadeFrom
from usergrowth_dagster.learning.registry import train_and_register
from usergrowth_dagster.learning.reviewing import newest_model
from usergrowth_dagster.learning.scoring import score
from usergrowth_dagster.learning.splits import user_scopes
from usergrowth_dagster.learning.targets import target_called
from usergrowth_dagster.learning.uplift.learners import DRLearner, TLearner, XLearner
from usergrowth_dagster.learning.uplift.rows import LeftOut, left_out
from usergrowth_dagster.learning.uplift.training import train_uplift
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine

DAY = date(2024, 6, 1)
CONFIG = TrainingConfig(algorithm="uplift", op_target="sms", return_days=5, window_days=300)
TABLE = "uplift_training"


@pytest.fixture(autouse=True)
def few_learners(monkeypatch: pytest.MonkeyPatch) -> None:
    """One learner and few resamples: the others are tested on their own."""
    monkeypatch.setattr("usergrowth_dagster.learning.uplift.choose.LEARNERS", (TLearner,))
    monkeypatch.setattr("usergrowth_dagster.learning.uplift.training.RESAMPLES", 60)


def run(engine: Engine, settings: Settings, config: TrainingConfig = CONFIG) -> Any:
    return train_and_register(
        engine, TABLE, config, DAY, settings, made_from=MadeFrom({}, code_version="1")
    )


def gates(registered: Any) -> dict[str, bool]:
    return {gate["name"]: gate["passed"] for gate in registered.summary["gates"]}


def test_an_effect_is_learned_registered_and_scored(engine: Engine, settings: Settings) -> None:
    """A version that cannot be loaded, scores with its labels, or is made twice from one input.

    A column with many values, of which the training knew few by name, stops no scoring.
    """
    make_uplift(engine)
    zips = "concat('zip', md5_number_lower(user_id) % 5000)"
    engine.run(f"create or replace table {TABLE} as select *, {zips} as zip from {TABLE}")
    registered = run(engine, settings)
    assert registered.ref.status == "approved", registered.summary["gates"]
    assert "uplift is shown" in registered.summary["sentence"]
    assert {"chosen", "random"} <= set(registered.summary["metrics"])
    assert set(registered.figures) == {"qini", "uplift_by_decile"}
    assert "| chosen |" in registered.card
    assert "## Limits" in registered.card
    assert all(png.startswith(b"\x89PNG") for png in registered.figures.values())
    assert not {"treated", "propensity", "channel", "target"} & set(
        registered.summary["importance"]
    )
    again = run(engine, settings)
    assert (again.reused, again.ref.version) == (True, 1)
    usable = newest_model(settings, "uplift", CONFIG.config_hash(), DAY)
    assert usable is not None
    assert newest_model(settings, "uplift", CONFIG.config_hash(), usable.last_label_day) is None
    engine.run(
        "create view people as select row_number() over (order by user_id) as row, user_id, "
        f"item_id, recency_days, events_30d, user_type, kind_events_30d, {zips} as zip from {TABLE} "
        "where ds = '2024-03-04'"
    )
    with pytest.raises(UserError, match="values of zip are new"):
        score(engine, replace(load(usable), reference=None), "people")
    scores = score(engine, usable, "people")
    engine.bind_arrow("found", scores)
    low, high = engine.rows(
        "select avg(score) filter (where recency_days < 8), "
        'avg(score) filter (where recency_days > 32) from found join people using ("row")'
    )[0]
    assert low < 0.15 < 0.3 < high
    assert engine.value("select min(score) from found") > -0.3


def test_no_effect_is_not_approved_and_says_so(engine: Engine, settings: Settings) -> None:
    """A text that changes nothing gets a model that chooses people by chance."""
    make_uplift(engine, effect="0")
    registered = run(engine, settings)
    assert registered.ref.status == "rejected"
    assert not gates(registered)["uplift"]
    assert "no uplift is shown" in registered.summary["sentence"]


def test_rows_that_did_not_land_are_caught(engine: Engine, settings: Settings) -> None:
    """A third of one arm lost on its way makes every comparison of arms a guess."""
    make_uplift(engine, missing="not treated and u % 3 = 0")
    registered = run(engine, settings)
    assert not gates(registered)["sample_ratio"]
    reason = next(g["reason"] for g in registered.summary["gates"] if g["name"] == "sample_ratio")
    assert "held-out rows are missing" in reason
    assert registered.ref.status == "rejected"


def test_unknown_and_certain_chances_are_left_out(engine: Engine, settings: Settings) -> None:
    """Someone who could not have been held out compared with those who were."""
    make_uplift(engine, drawn="case when u % 4 = 0 then 1.0 else 0.6 end", users=800)
    engine.run(f"update {TABLE} set propensity = null where not treated and ds = '2024-02-12'")
    registered = run(engine, settings)
    assert registered.summary["left_out"]["certain"] == 200 * 10
    assert registered.summary["left_out"]["unknown_held_out"] > 0
    assert not gates(registered)["propensities"]
    rows = engine.value(f"select count(*) from {TABLE} where propensity < 1")
    assert sum(part["rows"] for part in registered.summary["rows"].values()) <= rows


def test_other_channels_are_not_learned_from(engine: Engine, settings: Settings) -> None:
    """People held out from an e-mail set against those who got a text message."""
    make_uplift(engine)
    engine.run(f"update {TABLE} set target = 'email' where treated and user_id < 'u000300'")
    engine.run(f"update {TABLE} set channel = 'email' where not treated and user_id < 'u000300'")
    registered = run(engine, settings)
    of_channel = engine.value(f"select count(*) from {TABLE} where user_id >= 'u000300'")
    used = sum(part["rows"] for part in registered.summary["rows"].values())
    assert of_channel * 0.7 < used <= of_channel
    assert gates(registered)["sample_ratio"]


def test_only_people_of_the_channel_count_as_left_out(engine: Engine) -> None:
    """Guards against e-mails without a chance that keep every version for text messages back."""
    make_uplift(engine)
    for channel, users in (("email", 40), (None, 20), ("sms", 10)):  # of None it may be this one
        engine.run(
            f"insert into {TABLE} by name select * replace ($1 as channel, null as propensity, "
            f"concat('x', user_id) as user_id) from {TABLE} "
            f"where not treated and propensity > 0 limit {users}",
            [channel],
        )
    engine.run(
        f"insert into {TABLE} by name select * replace ('email' as target, null as propensity) "
        f"from {TABLE} where treated limit 7"
    )
    days = [day for (day,) in engine.rows(f"select distinct ds from {TABLE}")]
    assert left_out(engine, TABLE, CONFIG, days) == LeftOut(30, 0, 0)
    every = TrainingConfig(**CONFIG.model_dump() | {"op_target": None})
    assert left_out(engine, TABLE, every, days) == LeftOut(70, 7, 0)


def test_too_little_is_a_sentence(engine: Engine, settings: Settings) -> None:
    """A home without a control group gets a traceback from deep inside a learner."""
    make_uplift(engine, missing="not treated")
    with pytest.raises(UserError, match="control group"):
        run(engine, settings)
    make_uplift(engine, drawn="1.0")
    with pytest.raises(UserError, match="no training row"):
        run(engine, settings)


def test_few_held_out_train_or_are_one_sentence(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against folds without a control user, which end a training in a traceback."""
    learners = (TLearner, XLearner, DRLearner)
    monkeypatch.setattr("usergrowth_dagster.learning.uplift.choose.LEARNERS", learners)
    monkeypatch.setattr("usergrowth_dagster.learning.uplift.boosting.MAX_TREES", 10)
    trained = []
    for held_out in (3, 20, 25, 40):  # of 80 users, in every round
        make_uplift(engine, drawn=f"if(u < {held_out}, 0.001, 0.999)", users=80)
        try:
            registered = run(engine, settings)
        except UserError as error:
            assert "control users of a known chance" in str(error)
            assert "holdout.share" in str(error) and "\n" not in str(error)
        else:
            assert registered.summary["rows"]["train"]["control"]["returns"] >= 10
            trained.append(held_out)
    assert 3 not in trained and 40 in trained


def test_rows_of_one_day_are_split_by_user(engine: Engine, settings: Settings) -> None:
    """Guards against a single campaign from which nothing can be learned, and against people who
    are judged on what was learned from themselves."""
    make_uplift(engine, users=6000, rounds=1)
    trained = train_uplift(engine, "uplift_training", CONFIG, date(2024, 3, 1), settings)
    rows = {name: sum(arm["rows"] for arm in arms.values()) for name, arms in trained.rows.items()}
    assert sum(rows.values()) == 6000 and 0.2 < rows["test"] / 6000 < 0.3
    passed = {gate.name: gate for gate in trained.gates}
    assert passed["leakage"].passed and "different users" in passed["leakage"].reason
    assert "On users that it did not learn from" in trained.sentence
    assert any("not later days" in warning for warning in trained.warnings)
    split = trained.split
    scopes = user_scopes("true", split, settings.seed)
    both = engine.value(
        f"select count(*) from (select user_id from uplift_training where {scopes['train']} "
        f"intersect select user_id from uplift_training where {scopes['test']})"
    )
    assert both == 0


def test_a_summary_of_effects_is_that_of_its_training(engine: Engine, settings: Settings) -> None:
    """Guards against a card whose arms, deciles or comparison are those of something else."""
    make_uplift(engine)
    effect, stages = target_called("effect"), list[str]()
    trained = effect.train(
        *(engine, TABLE, CONFIG, DAY, settings),
        made_from=MadeFrom({}, code_version="1"),
        progress=stages.append,
    )
    assert "rows" in stages and len(stages) > 3
    gates = effect.judge(engine, TABLE, trained, settings, serving=None, before=None)
    assert gates == trained.gates
    summary = effect.summarize(trained, gates)
    for name, arms in trained.rows.items():
        part = summary["rows"][name]
        assert part["rows"] == arms["treated"]["rows"] + arms["control"]["rows"]
        assert part["positives"] == arms["treated"]["returns"] + arms["control"]["returns"]
        assert 0 < part["positives"] < part["rows"]
    others = set(trained.evaluation.metrics) - {"chosen"}
    assert set(summary["paired"]) == {f"chosen against {name}" for name in others}
    gain = trained.evaluation.difference("qini", "chosen", "random").as_dict()
    assert summary["paired"]["chosen against random"] == gain
    assert (
        sum(one["treated"] for one in summary["deciles"]) == trained.rows["test"]["treated"]["rows"]
    )
    assert summary["champion"] == trained.choice.chosen.name
    assert effect.chosen(trained) == "chosen" in summary["metrics"]
    assert list(summary["importance"]) == list(trained.importance)[:50]
    saved = effect.saved(trained)
    assert saved.model is trained.model and saved.predict == "predict"
    assert list(saved.files.values()) == [trained.reference.model_dump_json()]
    assert summary["left_out"] == vars(trained.without)
    assert summary["calibration"] == trained.calibration.as_dict()
    assert [one["name"] for one in summary["choice"]] == [f.name for f in trained.choice.figures]
    assert summary["params"].keys() == trained.choice.fitted.keys()
    assert effect.headline(summary, "approved") == trained.sentence
    json.dumps(summary, allow_nan=False)
