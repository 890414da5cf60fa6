"""The proof: intervals hold the true effect of simulated campaigns as often as they say.

The longer proof, with its table, is ``benchmarks/coverage.py``.
"""

import numpy as np
from campaign_world import campaigns
from effect_rows import plan

from usergrowth_dagster.effects.analysis import analyse


def test_intervals_hold_the_true_effect() -> None:
    """An interval that is too narrow, or so wide that it says nothing: 92 to 98 % hold the truth.

    So do those that the conclusions rest on, Newcombe's and the adjusted ones; those of amounts, where
    there are any, at least as often; and no estimate leans.
    """
    covered: dict[str, list[bool]] = {}
    errors: dict[str, list[float]] = {}
    widths: dict[str, list[float]] = {}
    for campaign in campaigns(41, 27_000, 12, texted=True):
        whole = analyse(campaign.table, plan(has_amount=True)).contrasts[0]
        for name, truth in (
            ("lift", campaign.rate),
            ("absolute", campaign.rate),
            ("adjusted", campaign.rate),
            ("value", campaign.value),
            ("value_adjusted", campaign.value),
        ):
            estimate = getattr(whole, name)
            if estimate.low is None:  # too few who paid
                continue
            covered.setdefault(name, []).append(estimate.low <= truth <= estimate.high)
            errors.setdefault(name, []).append(
                (estimate.value - truth) / (estimate.high - estimate.low)
            )
            widths.setdefault(name, []).append(estimate.high - estimate.low)
    assert len(covered["absolute"]) >= 200 and len(covered["value_adjusted"]) >= 190
    for name, hits in covered.items():
        most = 0.998 if name.startswith("value") else 0.98  # amounts are stated with caution
        assert 0.92 <= np.mean(hits) <= most, (name, np.mean(hits))
        assert abs(np.mean(errors[name])) < 3.5 * np.std(errors[name]) / np.sqrt(len(hits)), name
    assert np.mean(np.divide(widths["adjusted"], widths["absolute"])) < 0.85
    assert np.mean(widths["value_adjusted"]) < 0.97 * np.mean(widths["value"])


def test_no_effect_is_seldom_called_one() -> None:
    """Campaigns that text nobody and are said to work, at the end or at one of five planned looks."""
    at_end, at_any, uneven, number = 0, 0, 0, 0
    for campaign in campaigns(42, 27_000, 12, texted=False):
        number += 1
        last = analyse(campaign.table, plan())
        uneven += last.verdict == "uneven_split"
        at_end += last.verdict in ("works", "harms")
        looks = [analyse(*campaign.at_look(k, 5)).verdict for k in range(1, 6)]
        assert "no_effect_shown" not in looks[:-1] and "not_yet" not in looks[-1:]
        at_any += any(v in ("works", "harms") for v in looks)
    assert number >= 200 and uneven <= 2  # one in a thousand by chance
    # 5 % of 220 are 11; three standard deviations more are 21
    assert at_end <= 0.08 * number, (at_end, number)
    assert at_any <= 0.08 * number, (at_any, number)
