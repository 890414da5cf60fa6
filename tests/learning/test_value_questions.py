"""The labels and rows of the questions of what users are worth, on a few rows made by hand."""

from typing import Any

import duckdb
import pytest
from pydantic import ValidationError

from usergrowth_dagster.learning.problems.new_user_purchase import NewUserPurchase

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
