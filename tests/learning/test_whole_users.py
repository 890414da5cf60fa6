"""The draw of whole users, for models of amounts and of effects."""

from datetime import date

import pytest
from learning_frames import make_churn

from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.dataset import job_rows

D = date(2024, 7, 29)
CONFIG = TrainingConfig(algorithm="churn", start_date=date(2024, 1, 1))
USERS, SEEDS, SHARE = 800, 24, 0.25


def test_users_are_drawn_whole_and_each_with_the_same_chance(engine, settings):
    """Guards against a sample that splits a user, so that the same person is learned from and tested
    on, and against one that prefers users, days or labels, which no weight puts right."""
    make_churn(engine, users=USERS)
    _, whole, scope = job_rows(engine, "churn_training", CONFIG, D, settings)
    total = sum(rows for rows, _ in whole.values())
    rate = sum(hits for _, hits in whole.values()) / total
    wanted = dict(
        engine.rows(f"select user_id, count(*) from churn_training where {scope} group by all")
    )
    most, drawn, rates, rows = int(total * SHARE), dict.fromkeys(wanted, 0), [], []
    for seed in range(SEEDS):
        chosen = settings.model_copy(update={"seed": seed, "max_training_rows": most})
        _, counts, scope = job_rows(engine, "churn_training", CONFIG, D, chosen)
        assert counts.keys() == whole.keys()
        got = dict(
            engine.rows(f"select user_id, count(*) from churn_training where {scope} group by all")
        )
        assert all(wanted[user] == count for user, count in got.items()), "a user is split"
        assert sum(got.values()) == sum(some for some, _ in counts.values())
        rows.append(sum(got.values()))
        rates.append(sum(hits for _, hits in counts.values()) / rows[-1])
        for user in got:
            drawn[user] += 1
    assert sum(rows) / SEEDS == pytest.approx(most, rel=0.03)
    assert max(rows) < 1.2 * most and len(set(rows)) > SEEDS / 2
    assert sum(rates) / SEEDS == pytest.approx(rate, rel=0.03), "the rate of the sample is biased"
    # of draws with one chance for all, as many standard deviations as 800 users may show
    deviation = (SEEDS * SHARE * (1 - SHARE)) ** 0.5
    assert max(abs(times - SEEDS * SHARE) for times in drawn.values()) < 4.5 * deviation
