"""From outcome rows to an :class:`~usergrowth_dagster.effects.result.Effect`, money included.

An effect of a dry run is the same value without what nobody can have caused.
"""

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
from usergrowth_dagster.effects.interim import level_of_analysis
from usergrowth_dagster.effects.lift import rate_difference
from usergrowth_dagster.effects.result import (
    ArmFigures,
    ArmPath,
    ClickPaths,
    Contrast,
    DailyReturns,
    Decile,
    Effect,
    Estimate,
    Funnel,
    MoneyFigures,
)
from usergrowth_dagster.effects.rows import Plan, Rows, read_rows
from usergrowth_dagster.effects.sample_ratio import sample_ratio
from usergrowth_dagster.effects.verdict import conclude, crossover, notes_of
from usergrowth_dagster.settings.gateways import DRY_RUN

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Array = NDArray[Any]

_UNKNOWN_OF_A_DRY_RUN = ("delivered", "returned")


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
    del rows  # as much memory again, where the caller does not hold it either
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


def money(cost: float, returned: int, contrast: Contrast | None) -> MoneyFigures:
    """Cost a return, cost an incremental return, and profit.

    The interval of the cost of an incremental return is that of the incremental returns inverted:
    cost / high to cost / low. Where theirs spans zero the cost of one has no interval (it
    may be infinite, or the texts may keep people away), so there is none. Profit is the
    incremental value, after the margin, less the cost, which is known.

    Args:
        cost: of the treated arm's texts that went out, in currency.
        returned: users of the treated arm who returned.
        contrast: the treatment arm against the control arm; None without both.
    """
    each = cost / returned if returned else None
    incremental = profit = None
    if contrast is not None:
        extra, worth = contrast.returns, contrast.worth
        if extra.low is not None and extra.high is not None and extra.low > 0:
            incremental = Estimate(
                cost / extra.value, cost / extra.high, cost / extra.low, extra.p_value
            )
        if worth is not None:
            low = None if worth.low is None else worth.low - cost
            high = None if worth.high is None else worth.high - cost
            profit = Estimate(worth.value - cost, low, high)
    return MoneyFigures(cost, each, incremental, profit)


def as_dry_run(effect: Effect) -> Effect:
    """The effect of texts that were written to files alone: who was chosen, and no return.

    No lift, returns, value or cost is left in it, so neither the page, the JSON nor a terminal can
    show one.
    """
    steps = {
        name: rows
        for name, rows in effect.funnel.steps.items()
        if name not in _UNKNOWN_OF_A_DRY_RUN
    }
    losses = [loss for loss in effect.funnel.losses if loss.step not in _UNKNOWN_OF_A_DRY_RUN]
    clicks = effect.clicks and ClickPaths([_written(path) for path in effect.clicks.arms], [])
    written = steps.get("sent")
    texts = "The texts" if written is None else f"{written:,} texts"
    return replace(
        effect,
        verdict="dry_run",
        sentence=f"Dry run: nobody was texted. {texts} were written to files (gateway "
        f"{DRY_RUN}), so there is no effect to measure.",
        arms=[],
        contrasts=[],
        crossover={},
        deciles=[],
        daily=[],
        policies=[],
        notes=[],
        explored=None,
        funnel=Funnel(steps, losses),
        money=MoneyFigures(0.0, None, None, None),
        clicks=clicks,
    )


def _written(path: ArmPath) -> ArmPath:
    """The way of an arm's people whose texts were written to files: nobody can have clicked."""
    if path.channel is None:
        return replace(path, returned=0)
    unknown = dict.fromkeys(("delivered", "clicked", "converted"))
    losses = [loss for loss in path.losses if loss.step not in unknown]
    return ArmPath(
        path.name,
        path.channel,
        path.steps | unknown,
        losses,
        dict.fromkeys(unknown, "dry_run"),
        returned=0,
    )
