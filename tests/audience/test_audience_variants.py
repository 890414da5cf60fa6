"""The draw of the text: the same in SQL, for ever, by its shares, and independent of the arm."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usergrowth_dagster.audience.holdout import Holdout, position, position_sql
from usergrowth_dagster.audience.variants import VariantDraw, chance_sql, variant, variant_sql
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import Engine, open_engine

NAMES = ["plain", "it's", '"quoted"', "亲爱", "e f"]
USERS = [f"u{n}" for n in range(60_000)]


def draw(weights: dict[str, float], campaign: str = "spring", epoch: str = "1") -> VariantDraw:
    return VariantDraw(campaign=campaign, epoch=epoch, weights=weights)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with open_engine(load_settings(tmp_path_factory.mktemp("variants"))) as engine:
        engine.run("create table u as select 'u' || n as user_id from range(60000) t(n)")
        yield engine


@settings(max_examples=40, deadline=None)
@given(
    weights=st.dictionaries(
        st.sampled_from(NAMES), st.floats(1e-3, 1e6), min_size=1, max_size=len(NAMES)
    ),
    seed=st.integers(0, 1 << 30),
)
def test_sql_and_python_draw_alike(people: Engine, weights: dict[str, float], seed: int) -> None:
    """Guards against a person who gets another text by another engine or order of the file."""
    one = draw(weights, campaign=f"c{seed}")
    names = list(weights)
    random.Random(seed).shuffle(names)
    same = draw({name: weights[name] for name in names}, campaign=f"c{seed}")
    chosen, chance = variant_sql(one, "user_id"), chance_sql(one, "v")
    rows = people.rows(
        f"select user_id, v, {chance} from (select user_id, {chosen} as v from u limit 300)"
    )
    assert sum(one.chances.values()) == pytest.approx(1)
    for user, name, probability in rows:
        assert name == variant(one, user) == variant(same, user)
        assert probability == one.chances[name]


def test_drawn_for_ever() -> None:
    """Guards against a release that draws everybody afresh in the middle of a campaign."""
    one = draw({"a": 1, "b": 1, "c": 2})
    assert [variant(one, f"u{n}") for n in range(8)] == [*"cac", *"cbcbc"]
    assert draw({"a": 0.1, "b": 0.1, "c": 0.2}).chances == one.chances


def test_shares_hold_within_chance_and_in_each_arm(people: Engine) -> None:
    """Guards against texts that are mixed unevenly over the arms, which no effect survives."""
    one, control = draw({"a": 1, "b": 3}), Holdout(namespace="spring", share=0.2)
    at = position_sql(control, "user_id")
    counts = people.rows(
        f"select {variant_sql(one, 'user_id')} as v, ({at} < 0.2), count(*) from u group by all"
    )
    seen = {(name, is_control): number for name, is_control, number in counts}
    for is_control, share in ((True, 0.2), (False, 0.8)):
        for name, chance in one.chances.items():
            expected = len(USERS) * share * chance
            spread = (expected * (1 - share * chance)) ** 0.5
            assert abs(seen[name, is_control] - expected) < 4 * spread
    assert position(control, "u1") != position(control, "u2")


def test_another_campaign_or_epoch_draws_independently(
    people: Engine,
) -> None:
    """Guards against people who get the first text of every campaign for ever."""
    weights = {"a": 1.0, "b": 1.0}
    first = variant_sql(draw(weights), "user_id")
    for other in (draw(weights, campaign="summer"), draw(weights, epoch="2")):
        query = f"select count(*) from u where {first} = {variant_sql(other, 'user_id')}"
        alike = people.value(query)
        assert abs(alike - len(USERS) / 2) < 4 * (len(USERS) / 4) ** 0.5
