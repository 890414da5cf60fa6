"""Policies are validated with the key path, and their hash follows their meaning."""

import pytest

from usergrowth_dagster.audience.policy import Budget, Money, Threshold, TopN, parse_policy
from usergrowth_dagster.errors import UserError


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"kind": "threshold", "threshold": 0}, "selection.threshold: "),
        ({"kind": "threshold", "threshold": 1}, "selection.threshold: "),
        ({"kind": "threshold", "threshold": float("nan")}, "selection.threshold: "),
        ({"kind": "threshold", "treshold": 0.5}, "selection.t"),
        ({"kind": "top_n", "n": 0}, "selection.n: "),
        ({"kind": "top_n", "n": 2.5}, "selection.n: "),
        ({"kind": "budget", "budget": -1}, "selection.budget: "),
        ({"kind": "budget", "budget": 5, "n": 3}, "selection.n: "),
        ({"kind": "top_n", "n": 5, "explore": 0.6}, "selection.explore: "),
        ({"kind": "top_n", "n": 5, "rank_by": "age"}, "selection.rank_by: "),
        ({"kind": "money"}, "selection.value_per_return: "),
        ({"kind": "money", "value_per_return": 2, "min_profit": -1}, "selection.min_profit: "),
        ({"kind": "best"}, "selection: "),
        ({}, "selection: "),
    ],
)
def test_a_wrong_policy_names_its_key(values, path):
    """Guards against a threshold of 0 or 1, a typo, or two policies in one, taken silently."""
    with pytest.raises(UserError) as caught:
        parse_policy(values)
    assert str(caught.value).startswith(path) and "\n" not in str(caught.value)


def test_hash_follows_the_rule():
    """Guards against two different policies sharing a decision record."""
    policies = [Threshold(threshold=0.5), Threshold(threshold=0.5000000000000001), TopN(n=5)]
    policies += [TopN(n=6), Budget(budget=5), Budget(budget=6), TopN(n=5, explore=0.1)]
    policies += [TopN(n=5, rank_by="uplift"), Money(value_per_return=2)]
    policies += [Money(value_per_return=3), Money(value_per_return=2, budget=5)]
    hashes = [policy.policy_hash for policy in policies]
    assert len(set(hashes)) == len(hashes)
    again = parse_policy({"kind": "budget", "budget": 5})
    assert again.policy_hash == Budget(budget=5.0).policy_hash
