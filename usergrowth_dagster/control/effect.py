"""How a campaign's effect is measured: what counts as a return, within how long, at what worth."""

from pydantic import Field, PositiveInt

from usergrowth_dagster.control.values import Strict


class EffectSpec(Strict):
    """The outcome of a campaign, compared between those texted and the control group.

    A return is a behavior in [d + 1, d + return_days], where d is the execution date; with same_day
    one on d too. Keys that are not given are those of the algorithm (win-back), else 28 days and
    any behavior.
    """

    return_days: PositiveInt | None = Field(
        None, le=365, description="days after the execution date in which a return counts"
    )
    return_behaviors: list[str] | None = Field(
        None, min_length=1, description="behaviors that count as a return; null = any"
    )
    return_on_item: bool | None = Field(
        None, description="only behaviors on the row's item count as a return"
    )
    same_day: bool | None = Field(
        None,
        description="behavior on the execution date counts too, also what came before the text",
    )
    amount: str | None = Field(
        None, min_length=1, description="kvs_num key of behaviors whose sum is the value"
    )
    value_per_return: float | None = Field(
        None, gt=0, description="worth of one return, in currency; choosing by money needs it"
    )
    margin: float = Field(1.0, gt=0, le=1, description="share of the amount that is profit")
    pre_days: PositiveInt = Field(28, le=365, description="days before d, as covariates")
    looks: PositiveInt = Field(
        1,
        le=50,
        description="planned analyses of the effect; all but the last are interim",
    )
