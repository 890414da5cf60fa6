"""Outcome rows for tests: as many users as asked, with the arms and outcomes given."""

from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from usergrowth_dagster.effects.rows import Plan

D = date(2026, 3, 2)


def plan(**changes: Any) -> Plan:
    """A complete window of 28 days, looked at once."""
    values = {
        "task_id": "t",
        "campaign": "c",
        "execution_date": D,
        "return_days": 28,
        "landed_until": D + timedelta(days=30),
        "counted_until": D + timedelta(days=28),
    }
    return Plan(**(values | changes))


def outcomes(treated: Any, returned: Any, **columns: Any) -> pa.Table:
    """A table of outcomes; columns that are not given are plain."""
    treated, returned = np.asarray(treated, bool), np.asarray(returned, bool)
    n = len(treated)
    score = np.asarray(columns.get("score", np.linspace(0.9, 0.1, n)), float)
    place = np.argsort(np.argsort(-score, kind="stable"))
    share = columns.pop("share", 0.5)
    plain: dict[str, Any] = {
        "row": np.arange(n),
        "arm": np.where(treated, "treatment", "control"),
        "outcome": np.where(treated, "selected", "holdout"),
        "propensity": np.where(treated, 1 - share, share),
        "stratum": pa.nulls(n, pa.string()),
        "variant": pa.nulls(n, pa.string()),
        "variant_propensity": np.ones(n),
        "score": score,
        "uplift": pa.nulls(n, pa.float64()),
        "decile": place * 10 // max(n, 1) + 1,
        "returned": returned,
        "days_to_return": pa.array([14 if r else None for r in returned], pa.int32()),
        "amount": np.zeros(n),
        "pre_events": np.zeros(n),
        "pre_active_days": np.zeros(n),
        "pre_amount": np.zeros(n),
        "messages": treated.astype(int),
        "cost": treated * 0.05,
        "sent": treated,
        "delivered": treated,
        "other_texts": np.zeros(n, int),
    }
    return pa.table(plain | columns)


def counts(treated: tuple[int, int], control: tuple[int, int], **columns: Any) -> pa.Table:
    """Outcomes by (returned, users) of each arm, mixed in a fixed order."""
    arms = np.repeat([True, False], [treated[1], control[1]])
    came = np.concatenate([np.arange(n) < x for x, n in (treated, control)])
    order = np.random.default_rng(5).permutation(len(arms))
    return outcomes(arms[order], came[order], **columns)
