"""What a campaign counts as a return."""

from dataclasses import dataclass
from typing import TypeVar

from usergrowth_dagster.control.campaign import CampaignSpec

DEFAULT_RETURN_DAYS = 28

T = TypeVar("T")


@dataclass(frozen=True)
class ReturnRule:
    """Which behavior is a return.

    Attributes:
        days: days from the execution date to the last day that counts.
        behaviors: kinds of behavior that count; empty: any.
        on_item: whether only behavior on the row's item counts.
        same_day: whether the execution date counts too.
    """

    days: int
    behaviors: tuple[str, ...]
    on_item: bool
    same_day: bool


def return_rule(spec: CampaignSpec) -> ReturnRule:
    """The rule of a campaign.

    Keys that ``effect`` leaves out are those of the campaign's question; one that says nothing of
    returns asks for any behavior within 28 days.
    """
    effect, question = spec.effect, spec.algorithm.returns
    return ReturnRule(
        effect.return_days or question.days or DEFAULT_RETURN_DAYS,
        tuple(
            question.behaviors or () if effect.return_behaviors is None else effect.return_behaviors
        ),
        bool(_given(effect.return_on_item, question.on_item)),
        bool(_given(effect.same_day, question.same_day)),
    )


def _given(value: T | None, otherwise: T | None) -> T | None:
    return otherwise if value is None else value
