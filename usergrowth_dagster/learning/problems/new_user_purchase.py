"""Which new user buys: cohorts by the day of registration, seen for a few days, none touched.

A user who registers on day r is seen on [r, r + w] and decided on in the morning of r + w + 1. The
label is a purchase in (r + w, r + days]. Who buys before that is no row of this question.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from usergrowth_dagster.learning.problems.base import LONGEST_LABEL, Problem, Returns, Words
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.settings import Settings

BEFORE_DAYS = 14
"""Days before the date in which a purchase makes a user no new buyer, and a feature's window."""


class NewUserPurchase(Problem):
    """Which new user buys within so many days of registering.

    Attributes:
        behaviors: kinds of behavior that count as buying.
        observed_days: days w after that of registration that are seen before the decision.
        days: bought = one of them after these days, and at most so many days after registration.
        learn_from: users without a touch until the label closes, or those of them who were held
            out from a campaign as its control group.
        op_target: the kind of touch meant by that; None: any.
    """

    name = "new_user_purchase"
    aliases = ("vip",)
    parts_by: ClassVar = {"channel": ("attribute_str", "channel")}
    words = Words(
        asset="How likely a new user is to buy within so many days of registering, untouched.",
        asks="which new user buys of their own accord",
        score="chance of a first purchase",
        came_true="bought",
        rows="users by their day of registration, each seen for the same days "
        "(`observed_days`), who had not bought and were not touched until the label closed",
        limit="It says who buys untouched, not who buys because of a text; where touches went to "
        "those who looked like buyers, learn from the held out (`learn_from: held_out`).",
        first="the first day of a cohort's decision",
        stage="activation",
    )

    behaviors: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = Field(
        description="behaviors that count as buying"
    )
    observed_days: Literal[0, 1, 3, 7] = Field(
        3, description="days after that of registration that are seen before the decision"
    )
    days: Annotated[int, Field(ge=8, le=LONGEST_LABEL)] = Field(
        30, description="bought = one of them, at most so many days after registration"
    )
    learn_from: Literal["untouched", "held_out"] = Field(
        "untouched", description="users without a touch, or only those of a control group"
    )
    op_target: str | None = Field(None, description="kind of touch meant by that; null = any")

    @classmethod
    def default(cls, settings: Settings) -> Self | None:
        return None  # which behavior is a purchase cannot be taken for granted

    @property
    def horizon_days(self) -> int:
        return self.days - self.observed_days

    def most_days(self, settings: Settings) -> int:
        return LONGEST_LABEL

    @property
    def label_settings(self) -> dict[str, object]:
        return {**super().label_settings, "behaviors": sorted(set(self.behaviors))}

    def _any_within(self, first: str) -> str:
        kinds = map(literal, sorted(set(self.behaviors)))
        return f"coalesce({' or '.join(first.format(kind) for kind in kinds)}, false)"

    def label_sql(self) -> str:
        return self._any_within(f"days_to_behavior[{{}}] < {self.horizon_days}")

    def rows_sql(self) -> str:
        first = "list_min(map_values(days_to_touch))"
        if self.op_target is not None:
            first = f"days_to_touch[{literal(self.op_target)}]"
        conditions = [
            f"tenure_days = {self.observed_days + 1}",
            f"not {self._any_within('days_to_behavior[{}] < 0')}",
            f"coalesce({first} >= {self.horizon_days}, true)",
        ]
        if self.learn_from == "held_out":
            conditions.append(f"coalesce(days_to_holdout < {self.horizon_days}, false)")
        return " and ".join(conditions)

    def about_sql(self, features: str) -> str:
        bought = self._any_within(f"{features}.kind_events_{BEFORE_DAYS}d[{{}}] > 0")
        return f"{features}.tenure_days = {self.observed_days + 1} and not {bought}"

    def about(self) -> str:
        days = self.observed_days + 1
        return f"registered {days} day{'s' * (days > 1)} before and has not bought"

    @property
    def returns(self) -> Returns:
        return Returns(days=self.horizon_days, behaviors=self.behaviors)

    def narrowed(self) -> str:
        days = self.observed_days + 1
        return f" whose users registered {days} day{'s' * (days > 1)} before"

    def without_rows(self) -> str:
        touched = "had no touch" if self.learn_from == "untouched" else "were held out as control"
        return (
            "a row is a user whose registration (reg_time) has landed by the day after it, who "
            f"{touched} until {self.days} days after it; land the user table every day"
        )

    def question(self) -> str:
        seen = {0: "its day is", 1: "it and the next day are"}.get(
            self.observed_days, f"it and the {self.observed_days} days after it are"
        )
        return (
            "How likely is a new user to show a first behavior of the kind "
            f"{' or '.join(sorted(set(self.behaviors)))} within {self.days} days of registering, "
            f"of their own accord, once {seen} seen?"
        )
