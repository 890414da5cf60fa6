"""How much a user spends: the sum of a numeric value in the days from the snapshot on."""

from typing import Annotated, Literal, Self

from pydantic import Field

from usergrowth_dagster.learning.problems.base import LONGEST_LABEL, Days, Problem, Returns, Words
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.settings import Settings


class Spend(Problem):
    """How much a user spends within so many days.

    Attributes:
        amount: the key of the behaviors' numeric values whose sum is the label.
        days: the sum is over ``[S, S + days - 1]``.
        active_days: days before S in which a user must have been active.
    """

    name = "spend"
    target = "regression"
    amounts = True
    words = Words(
        asset="How much a user spends in the days from the execution date on.",
        asks="who spends most in the days to come",
        score="expected spending",
        came_true="spent",
        rows="users with an event in the days before each snapshot (`active_days` of the question)",
        limit="It says who spends, not who spends more because of a text.",
        stage="revenue",
    )

    amount: Annotated[str, Field(min_length=1)] = Field(
        description="kvs_num key of behaviors whose sum is the answer"
    )
    days: Literal[7, 14, 30, 60, 90] = Field(30, description="days from the date on")
    active_days: Days = Field(90, description="users with an event in so many days before the date")

    @classmethod
    def default(cls, settings: Settings) -> Self | None:
        return None  # no key of an amount can be taken for granted

    @property
    def horizon_days(self) -> int:
        return self.days

    def most_days(self, settings: Settings) -> int:
        return LONGEST_LABEL

    def label_sql(self) -> str:
        """Refunds that exceed the purchases count as nothing."""
        return f"greatest(coalesce(amount_next_{self.days}d[{literal(self.amount)}], 0), 0)"

    @property
    def past_feature(self) -> tuple[str, str | None] | None:
        return f"amount_{self.days}d", self.amount

    def rows_sql(self) -> str:
        return f"recency_days <= {self.active_days}"

    def active_within(self, settings_days: int) -> int | None:
        return self.active_days

    @property
    def returns(self) -> Returns:
        return Returns(days=self.days)

    def question(self) -> str:
        return (
            f"How much {self.amount} does a user who was active in the last {self.active_days} "
            f"days come to in the {self.days} days from the execution date on?"
        )
