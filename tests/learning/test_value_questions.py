"""The labels and rows of the questions of what users are worth, on a few rows made by hand."""

from pathlib import Path
from typing import Any, Literal

import duckdb
import pytest
from pydantic import ValidationError

from usergrowth_dagster.learning.problems.base import Asked, Returns
from usergrowth_dagster.learning.problems.ltv import Ltv
from usergrowth_dagster.learning.problems.new_user_purchase import NewUserPurchase
from usergrowth_dagster.settings import load_settings

BUYERS = """
    select * from (values
        ('bought on the date', 4, map {'buy': 0}, null, null),
        ('bought on the last day', 4, map {'buy': 26, 'view': -3}, null, null),
        ('bought a day late', 4, map {'buy': 27}, null, null),
        ('bought before', 4, map {'buy': -1, 'buy_more': 3}, null, null),
        ('bought the other', 4, map {'buy_more': 3}, null, null),
        ('other cohort', 2, map {'buy': 1}, null, null),
        ('texted before', 4, map {'buy': 1}, map {'sms': -2}, 5),
        ('texted on the last day', 4, null, map {'sms': 26}, null),
        ('texted after', 4, null, map {'sms': 27}, 30),
        ('mailed', 4, null, map {'email': 3}, 26)
    ) rows (name, tenure_days, days_to_behavior, days_to_touch, days_to_holdout)
"""


def _kept(question: NewUserPurchase) -> dict[str, bool]:
    """The rows of a question with their labels."""
    sql = f"select name, {question.label_sql()} from ({BUYERS}) where {question.rows_sql()}"
    return dict(duckdb.execute(sql).fetchall())


def test_a_new_buyer_is_untouched_and_buys_between_the_seen_days_and_the_last() -> None:
    """Guards against a label or a mask that is a day off, and a buyer or texted user who stays."""
    natural = {
        "bought on the date": True,
        "bought on the last day": True,
        "bought a day late": False,
        "bought the other": False,
        "texted after": False,
    }
    assert _kept(NewUserPurchase(behaviors=("buy",))) == natural
    both = NewUserPurchase(behaviors=("buy_more", "buy"))
    assert _kept(both) == natural | {"bought the other": True}
    texts = NewUserPurchase(behaviors=("buy",), op_target="sms")
    assert _kept(texts) == natural | {"mailed": False}
    held = NewUserPurchase(behaviors=("buy",), op_target="sms", learn_from="held_out")
    assert _kept(held) == {"mailed": False}, "held out within the days of the label"
    early = NewUserPurchase(behaviors=("buy",), observed_days=1)
    assert _kept(early) == {"other cohort": True}
    assert (both.horizon_days, early.horizon_days) == (27, 29)


def test_a_decision_is_about_the_users_that_the_training_has() -> None:
    """Guards against people who are scored by a model that never saw their like."""
    question = NewUserPurchase(behaviors=("buy", "buy_more"))
    people = """
        select * from (values
            ('in', 4, map {'view': 3.0}), ('silent', 4, null), ('older', 5, null),
            ('unknown', null, null), ('bought', 4, map {'buy_more': 1.0})
        ) f (name, tenure_days, kind_events_14d)
    """
    sql = f"select name from ({people}) as f where coalesce({question.about_sql('f')}, false)"
    assert {name for (name,) in duckdb.execute(sql).fetchall()} == {"in", "silent"}


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"behaviors": ()}, "behaviors"),
        ({"behaviors": ("buy",), "observed_days": 2}, "observed_days"),
        ({"behaviors": ("buy",), "days": 7}, "days"),
        ({"behaviors": ("buy",), "learn_from": "all"}, "learn_from"),
    ],
)
def test_a_question_refuses_what_no_cohort_has(wrong: dict[str, Any], names: str) -> None:
    """Guards against a label whose last day comes before its first."""
    with pytest.raises(ValidationError, match=names):
        NewUserPurchase.model_validate(wrong)


def test_a_lifetime_value_is_the_discounted_sum_of_its_months() -> None:
    """Guards against a month too many, one that is lost where the key is not in it, and a rate that
    discounts the near months more than the far ones."""
    months = ", ".join(
        f"map {{'pay': {amount}, 'fee': 1000.0}} as amount_month_{n}"
        for n, amount in enumerate((100.0, -20.0, 40.0), 1)
    )
    rest = ", ".join(f"map {{'fee': 1000.0}} as amount_month_{n}" for n in (4, 5))
    rows = f"select {months}, {rest}, map {{'pay': 7.0}} as amount_month_6"

    def worth(days: Literal[30, 90, 180], discount: float, key: str = "pay") -> float:
        question = Ltv(amount=key, days=days, discount=discount)
        ((value,),) = duckdb.execute(f"select {question.label_sql()} from ({rows})").fetchall()
        return float(value)

    assert [worth(days, 0) for days in (30, 90, 180)] == [100, 120, 127]
    after = [1.1 ** -(day / 365) for day in (15, 45, 75, 165)]
    plain = sum(a * f for a, f in zip((100, -20, 40, 7), after, strict=True))
    assert worth(180, 0.1) == pytest.approx(plain)
    assert worth(30, 0.1) == pytest.approx(100 * after[0])
    assert worth(90, 0, "other") == 0, "nothing, not NULL"


def test_the_discount_is_that_of_the_campaign_or_of_the_setting(tmp_path: Path) -> None:
    """Guards against a setting that a label does not see, and a rate of 0 taken for none."""
    settings = load_settings(tmp_path, yearly_discount=0.2)

    def asked(**keys: Any) -> Ltv:
        block = Ltv.block().model_validate({"kind": "ltv", "amount": "pay", **keys})
        return Ltv.of(Asked(block, Returns(), "sms", by_effect=False), settings)

    given = [asked(), asked(discount=0), asked(discount=0.3)]
    assert [one.discount for one in given] == [0.2, 0, 0.3]
    keys = {"algorithm": "ltv", "amount": "pay", "days": 180, "discount": 0.2, "active_days": 90}
    assert asked(days=180).label_settings == keys
    assert asked(days=180).returns.days == 90, "as far as an effect is measured"
