"""What the texts cost, and what that bought."""

from usergrowth_dagster.effects.result import Contrast, Estimate, MoneyFigures


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
