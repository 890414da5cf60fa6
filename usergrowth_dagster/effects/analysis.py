"""From outcome rows to an :class:`~usergrowth_dagster.effects.result.Effect`."""

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.effects.contrasts import (
    counts_of,
    delivered_only,
    intention_to_treat,
    variant_contrasts,
    variant_names,
)
from usergrowth_dagster.effects.crossover import crossover
from usergrowth_dagster.effects.interim import level_of_analysis
from usergrowth_dagster.effects.lift import rate_difference
from usergrowth_dagster.effects.money import money
from usergrowth_dagster.effects.result import (
    ArmFigures,
    DailyReturns,
    Decile,
    Effect,
    Funnel,
)
from usergrowth_dagster.effects.rows import Plan, Rows, read_rows
from usergrowth_dagster.effects.sample_ratio import sample_ratio
from usergrowth_dagster.effects.verdict import conclude, notes_of

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Array = NDArray[Any]


def analyse(rows: "pa.Table", plan: Plan) -> Effect:
    """Measure one task.

    Args:
        rows: its outcomes, with the columns of
            :data:`usergrowth_dagster.effects.outcomes.OUTCOME_COLUMNS`.
        plan: how they are to be read.

    Returns:
        The effect, without a funnel and without what other policies would have earned.
    """
    drawn = read_rows(rows, plan)
    level = level_of_analysis(plan.look, plan.looks, plan.return_days, drawn.day, plan.level)
    now = replace(plan, level=level)
    whole = intention_to_treat(drawn, now)
    reached = delivered_only(drawn, now)
    contrasts = [one for one in (whole, reached) if one is not None]
    contrasts += variant_contrasts(drawn, now)
    arms = _arms(drawn)
    ratio = sample_ratio(
        drawn.treated,
        drawn.chance,
        strata=drawn.strata,
        variants=drawn.variants,
        variant_chance=drawn.variant_chance,
        decided=plan.decided,
        repeated=drawn.repeated,
        altered=plan.altered,
        refused=plan.refused,
    )
    verdict, sentence = conclude(plan, arms, whole, ratio, bool(drawn.sent[drawn.treated].any()))
    return Effect(
        task_id=plan.task_id,
        campaign=plan.campaign,
        execution_date=plan.execution_date,
        window_first=plan.execution_date + timedelta(days=plan.first_day),
        window_last=plan.execution_date + timedelta(days=plan.return_days),
        landed_until=plan.landed_until,
        complete=plan.complete,
        level=level,
        looks=plan.looks,
        currency=plan.currency,
        arms=arms,
        contrasts=contrasts,
        sample_ratio=ratio,
        crossover=crossover(drawn.treated, drawn.sent, drawn.others),
        deciles=_deciles(drawn, now),
        funnel=Funnel({}, []),
        money=money(arms[0].cost, arms[0].returned, whole),
        verdict=verdict,
        sentence=sentence,
        notes=notes_of(plan, drawn, whole),
        daily=_daily(drawn, plan),
        counted_until=plan.counted_until,
        stays=plan.stays,
    )


def _arms(rows: Rows) -> list[ArmFigures]:
    """Treatment, control, then each text where there are several."""
    arms = [_arm("treatment", rows, rows.treated), _arm("control", rows, ~rows.treated)]
    names = variant_names(rows)
    return arms + [_arm(name, rows, rows.treated & (rows.variants == name)) for name in names]


def _arm(name: str, rows: Rows, mask: "Array") -> ArmFigures:
    users, returned = int(mask.sum()), int(rows.returned[mask].sum())
    return ArmFigures(
        name=name,
        users=users,
        returned=returned,
        rate=returned / users if users else 0.0,
        amount=float(rows.value[mask].sum()),
        messages=int(rows.messages[mask].sum()),
        cost=float(rows.cost[mask].sum()),
        delivered=int(rows.delivered[mask].sum()),
    )


def _deciles(rows: Rows, plan: Plan) -> list[Decile]:
    import numpy as np

    deciles = []
    for tenth in range(1, 11):
        mask = (rows.decile == tenth) & np.isfinite(rows.score)
        if not mask.any():
            continue
        one, other = mask & rows.treated, mask & ~rows.treated
        counts = counts_of(rows, one, other)
        predicted = rows.uplift[mask]
        known = predicted[np.isfinite(predicted)]
        both = counts.treated_users and counts.control_users
        deciles.append(
            Decile(
                decile=tenth,
                low_score=float(rows.score[mask].min()),
                high_score=float(rows.score[mask].max()),
                treated=counts.treated_users,
                control=counts.control_users,
                treated_rate=counts.treated_rate if counts.treated_users else None,
                control_rate=counts.control_rate if counts.control_users else None,
                lift=rate_difference(counts, plan.level) if both else None,
                predicted_uplift=float(known.mean()) if len(known) else None,
            )
        )
    return deciles


def _daily(rows: Rows, plan: Plan) -> list[DailyReturns]:
    """Returns by the end of each counted day of the window."""
    if plan.counted_until is None:
        return []
    last = (plan.counted_until - plan.execution_date).days
    return [
        DailyReturns(
            day,
            int((rows.treated & (rows.day <= day)).sum()),
            int((~rows.treated & (rows.day <= day)).sum()),
        )
        for day in range(plan.first_day, min(last, plan.return_days) + 1)
    ]
