"""What a user is worth: the discounted sum of a numeric value in the days from the snapshot on."""

from typing import Annotated, Literal, Self

from pydantic import Field

from usergrowth_dagster.learning.problems.base import (
    LONGEST_LABEL,
    Asked,
    Days,
    Problem,
    Returns,
    Words,
)
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.settings import Settings

MONTH = 30
"""Days of a column of the training rows."""
YEAR = 365


class Ltv(Problem):
    """What a user is worth within so many days, of which the later ones count less.

    Attributes:
        amount: the key of the behaviors' numeric values whose sum is the label.
        days: the sum is over ``[S, S + days - 1]``.
        discount: what an amount of a year later is worth less, as a yearly rate of interest; the
            amounts of each 30 days count as of their middle. None: by setting.
        active_days: days before S in which a user must have been active.
    """

    name = "ltv"
    target = "regression"
    amounts = True
    words = Words(
        asset="What a user is worth in the days from the execution date on, discounted.",
        asks="who is worth most in the days to come",
        score="expected lifetime value",
        came_true="spent",
        rows="users with an event in the days before each snapshot (`active_days` of the question)",
        limit="It says who spends, not who spends more because of a text, and it ends with its "
        "days: what comes later is no part of it.",
        stage="revenue",
    )

    amount: Annotated[str, Field(min_length=1)] = Field(
        description="kvs_num key of behaviors whose sum is the answer"
    )
    days: Literal[30, 90, 180] = Field(90, description="days from the date on")
    discount: Annotated[float, Field(strict=False, ge=0, le=1)] | None = Field(
        None, description="yearly rate that later amounts are discounted by; default by setting"
    )
    active_days: Days = Field(90, description="users with an event in so many days before the date")

    @classmethod
    def of(cls, asked: Asked, settings: Settings) -> Self:
        question = super().of(asked, settings)
        if question.discount is not None:
            return question
        return question.model_copy(update={"discount": settings.yearly_discount})

    @classmethod
    def default(cls, settings: Settings) -> Self | None:
        return None  # no key of an amount can be taken for granted

    @property
    def horizon_days(self) -> int:
        return self.days

    def most_days(self, settings: Settings) -> int:
        return self.days  # its training rows look as far ahead as it can ask

    def label_sql(self) -> str:
        """Refunds that exceed the purchases count as nothing."""
        rate, key = 1 + (self.discount or 0), literal(self.amount)
        factors = {
            month: rate ** -((month - 0.5) * MONTH / YEAR)
            for month in range(1, self.days // MONTH + 1)
        }
        months = (  # with an exponent a factor is no decimal, whose products may overflow
            f"coalesce(amount_month_{month}[{key}], 0) * {factor}e0"
            for month, factor in factors.items()
        )
        return f"greatest({' + '.join(months)}, 0)"

    @property
    def past_feature(self) -> tuple[str, str | None] | None:
        """The amount of as many days before, of 90 at most: features look no further back."""
        return f"amount_{min(self.days, 90)}d", self.amount

    def rows_sql(self) -> str:
        return f"recency_days <= {self.active_days}"

    def active_within(self, settings_days: int) -> int | None:
        return self.active_days

    @property
    def returns(self) -> Returns:
        return Returns(days=min(self.days, LONGEST_LABEL))  # as far as an effect is measured

    def question(self) -> str:
        worth = f", discounted by {self.discount:.4g} a year" if self.discount else ""
        return (
            f"How much {self.amount} does a user who was active in the last {self.active_days} "
            f"days come to in the {self.days} days from the execution date on{worth}?"
        )
