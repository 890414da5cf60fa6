"""What keeps a version from scoring, and rows from being scored: by name, through the real calls."""

from dataclasses import replace
from datetime import date
from types import SimpleNamespace

import pytest
from learning_frames import make_churn

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.artifacts import load
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.dataset import job_rows, load_slices, on_days
from usergrowth_dagster.learning.encoding import fit_spec
from usergrowth_dagster.learning.gates import features_gate, leakage_gate, positives_gate
from usergrowth_dagster.learning.leakage import Screening, screen
from usergrowth_dagster.learning.origin import MadeFrom
from usergrowth_dagster.learning.registry import train_and_register
from usergrowth_dagster.learning.reviewing import newest_model
from usergrowth_dagster.learning.scoring import score
from usergrowth_dagster.learning.splits import split_by_time, user_scopes
from usergrowth_dagster.learning.store import client
from usergrowth_dagster.learning.training import train
from usergrowth_dagster.pipeline.score import make_scores
from usergrowth_dagster.pipeline.scoring_rows import ScoringRows
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.relation import bind_query

D = date(2024, 7, 8)
CONFIG = TrainingConfig(algorithm="churn", start_date=date(2024, 1, 1))
CHURNED = "(days_to_next is null or days_to_next >= 7)"
FLIPPED = f"{CHURNED} <> (md5_number_lower(concat('f{{}}', user_id, ds)) % 100 < {{}})"


def flipped(percent: int, draw: int = 0) -> str:
    """The label of the future with so many of its values turned around."""
    return f"({FLIPPED.format(draw, percent)})"


PLANTS = {
    "flipped": {"vip_level": f"case when {flipped(15)} then 2 else 1 end"},
    "days and noise": {
        "loyalty": "days_to_next + (md5_number_lower(concat('d', user_id, ds)) % 5)::integer"
    },
    "category": {"tier": f"case when {flipped(15)} then 'amber' else 'jade' end"},
    "key of a map": {"attribute_num": f"map {{'age': 3.0, 'quota': {flipped(15)}::double}}"},
    "category in a map": {
        "attribute_str": f"map {{'city': 'c1', 'plan': case when {flipped(15)} then 'x' else 'y' end}}"
    },
    "twins": {"one": f"{flipped(15)}::integer", "two": f"{flipped(15)}::integer * 3"},
    "two draws": {"one": f"{flipped(15)}::integer", "two": f"{flipped(15, 1)}::integer"},
}
NAMES = {
    "flipped": {"vip_level"},
    "days and noise": {"loyalty"},
    "category": {"tier"},
    "key of a map": {"attribute_num[quota]"},
    "category in a map": {"attribute_str[plan]"},
    "twins": {"one", "two"},
    "two draws": {"one", "two"},
}
PADDED = "map_from_entries([(concat('p', i), (md5_number_lower(concat(i, user_id, ds)) % 97)::double) for i in range(40)])"


def plant(engine, columns, name="planted", padded=False):
    """The training relation with columns made from the future."""
    known = set(engine.describe("select * from churn_training"))
    changed = ", ".join(f"{sql} as {c}" for c, sql in columns.items() if c in known)
    added = "".join(f", {sql} as {c}" for c, sql in columns.items() if c not in known)
    pad = f", {PADDED} as pad" if padded else ""
    kept = f"* replace ({changed})" if changed else "*"
    engine.run(f"create or replace table {name} as select {kept} {added} {pad} from churn_training")


def screened(engine, relation, settings):
    """What the canary says of a relation, without the models."""
    _, counts, scope = job_rows(engine, relation, CONFIG, D, settings)
    split = split_by_time(counts, CONFIG)
    spec = fit_spec(engine, relation, where=f"{scope} and {on_days(split.train)}")
    slices, test = load_slices(engine, relation, CONFIG, spec, split, user_scopes(scope, split, 0))
    return screen(spec, slices["train"], test, settings)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A home, an engine with honest rows, and the training on them."""
    settings = load_settings(tmp_path_factory.mktemp("gates") / "home")
    with open_engine(settings) as engine:
        make_churn(engine, users=250, weeks=26)
        yield settings, engine, train(engine, "churn_training", CONFIG, D, settings)


@pytest.mark.parametrize("kind", PLANTS)
def test_a_column_made_from_the_future_is_named(world, kind):
    """Guards against leaks that are noisy, hide in a map or a category, or cover for each other."""
    settings, engine, _ = world
    plant(engine, PLANTS[kind], padded=kind == "twins")
    screening = screened(engine, "planted", settings)
    assert screening.dependence is not None
    assert set(screening.dependence.features) == NAMES[kind]
    assert screening.dependence.fall.low > 0 and screening.dependence.fall.value > 0.1


@pytest.mark.parametrize("padded", [False, True])
def test_honest_features_are_not_accused(world, padded):
    """Guards against a canary that cries at every strong feature."""
    settings, engine, _ = world
    plant(engine, {}, padded=padded)
    screening = screened(engine, "planted", settings)
    assert screening.dependence is None and max(screening.alone.values()) < 0.9
    assert next(iter(screening.alone)) == "recency_days"


def test_a_version_that_leaks_is_rejected_by_name_and_scores_nobody(world):
    """Guards against a gate that sees the leak but lets the version through."""
    settings, engine, _ = world
    plant(engine, PLANTS["key of a map"])
    registered = train_and_register(
        engine, "planted", CONFIG, D, settings, made_from=MadeFrom({"t": 1}, code_version="leak")
    )
    gate = next(g for g in registered.summary["gates"] if g["name"] == "leakage")
    assert not gate["passed"] and "attribute_num[quota]" in gate["reason"]
    assert "trusted_features" in gate["reason"] and "recency_days" not in gate["reason"]
    assert registered.ref.status == "rejected" and registered.ref.failed_gates == ["leakage"]
    assert newest_model(settings, "churn", CONFIG.config_hash(), D) is None
    assert "attribute_num[quota]" in registered.card and "**failed**" in registered.card
    made = client(settings).get_model_version("churn", str(registered.ref.version))
    assert "leakage** failed" in made.description and len(made.description) < 5000
    trusting = settings.model_copy(update={"trusted_features": ("attribute_num[quota]",)})
    assert screened(engine, "planted", trusting).dependence is None


def test_a_plain_leak_and_a_jump_are_named(world):
    """Guards against the label itself passing, and a feature that learned the future meanwhile."""
    settings, _, trained = world
    alone, seen = dict(trained.screening.alone), trained.screening.seen
    leaking = replace(trained, screening=Screening({**alone, "events_30d": 0.995}, seen, None))
    gate = leakage_gate(leaking, settings)
    assert not gate.passed and gate.reason.startswith("events_30d gives away")
    before = {"alone": {**alone, "events_30d": 0.5}, "screened": [5000, 900]}
    risen = replace(trained, screening=Screening({**alone, "events_30d": 0.8}, seen, None))
    gate = leakage_gate(risen, settings, before)
    assert not gate.passed and "events_30d has AUC 0.800" in gate.reason
    few = {**before, "screened": [60, 20]}
    assert leakage_gate(risen, settings, few).passed, "a jump that chance explains"
    rare = Screening({**alone, "events_30d": 0.64}, (10_000, 12), None)  # of millions of rows
    assert leakage_gate(replace(trained, screening=rare), settings, before).passed
    assert leakage_gate(trained, settings, {**before, "alone": alone}).passed


def test_too_few_positives_and_lost_columns_are_named(world):
    """Guards against a version judged on a handful of people, or fed by columns nobody has."""
    settings, engine, trained = world
    assert positives_gate(trained, settings).passed
    few = replace(trained, counts={**trained.counts, "test": (500, 19)})
    gate = positives_gate(few, settings)
    assert not gate.passed and "19 positive rows in the test slice, fewer than 20" in gate.reason
    sure = replace(trained, counts={**trained.counts, "train": (500, 470)})
    gate = positives_gate(sure, settings)
    assert not gate.passed and "30 negative rows in the train slice" in gate.reason
    types = engine.describe("select * from churn_training")
    assert features_gate(trained, types).passed and features_gate(trained, None).passed
    del types["kind_events_30d"]
    types["recency_days"] = "VARCHAR"
    gate = features_gate(trained, types)
    assert not gate.passed and "kind_events_30d will be missing" in gate.reason
    assert "recency_days is a number here and VARCHAR" in gate.reason


CHANGED = {
    "a column is gone": ("* exclude (events_30d)", "lack events_30d"),
    "another kind": (
        "* replace (recency_days::varchar as recency_days)",
        "recency_days was a number and is VARCHAR now",
    ),
    "new categories": (
        "* replace (concat('new', user_id) as user_type)",
        "values of user_type are new",
    ),
    "new keys": (
        "* replace (map {'purchase': 1.0} as kind_events_30d)",
        "values in kind_events_30d, by their keys, are new",
    ),
    "nothing": ("user_id", "none of its features"),
}


@pytest.fixture(scope="module")
def version(world):
    """A registered version of the honest rows."""
    settings, engine, _ = world
    strict = settings.model_copy(update={"leak_auc": 0.991})  # a fingerprint of its own
    registered = train_and_register(
        engine,
        "churn_training",
        CONFIG,
        D,
        strict,
        made_from=MadeFrom({"t": 1}, code_version="honest"),
    )
    assert registered.ref.status == "approved"
    return load(registered.ref)


def test_rows_that_the_model_cannot_read_are_not_scored(world, version):
    """Guards against scores of people whose features were lost, retyped or renamed on the way."""
    _, engine, _ = world
    people = "churn_training where ds = '2024-06-24'"
    for name, (columns, words) in CHANGED.items():
        with pytest.raises(UserError, match=words) as caught:
            score(engine, version, f"(select {columns} from {people})")
        assert "version" in str(caught.value) and "train again" in str(caught.value), name
        assert "\n" not in str(caught.value)
    assert score(engine, version, f"(from {people})").num_rows == 250
    half = "* replace (case when user_id < 'u000125' then 'new' else user_type end as user_type)"
    assert score(engine, version, f"(select {half} from {people})").num_rows == 250
    handful = f"(select {CHANGED['new categories'][0]} from {people} limit 20)"
    assert score(engine, version, handful).num_rows == 20, "too few to tell"


def test_how_many_values_may_be_new_is_the_setting(world, version):
    """Guards against a setting that says when scoring fails, and that scoring never asks."""
    settings, engine, _ = world
    population = bind_query(
        engine,
        "population",
        """select row_number() over () as "row", user_id, 'offer' as item_id
        from churn_training where ds = '2024-06-24'""",
    )
    joined = bind_query(
        engine,
        "scoring_rows",
        f"""select p."row", f.* replace (concat('new', user_id) as user_type)
        from {population} as p inner join churn_training as f using (user_id)
        where f.ds = '2024-06-24'""",
    )
    rows = ScoringRows(population, (), joined)
    task = SimpleNamespace(task_id="spring", execution_date=D)
    with pytest.raises(UserError, match="values of user_type are new"):
        make_scores(engine, settings, task, rows, version.ref, None)
    lax = settings.model_copy(update={"max_unseen_share": 1.0})
    made = make_scores(engine, lax, task, rows, version.ref, None)
    assert engine.value(f"select count(score) from {made.scores}") == 250
