"""Who shares: one of the named behaviors of a user in the days from the snapshot on."""

from typing import Annotated, Self

from pydantic import Field

from usergrowth_dagster.learning.problems.base import LONGEST_LABEL, Days, Problem, Returns, Words
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.settings import Settings


class Sharing(Problem):
    """Who shares within so many days.

    Its rows are those of the question of purchases.

    Attributes:
        behaviors: kinds of behavior that count as sharing.
        days: shared = one of them in ``[S, S + days - 1]``.
        active_days: days before S in which a user must have been active.
    """

    name = "sharing"
    aliases = ("share",)
    words = Words(
        asset="How likely a user is to share in the days from the execution date on.",
        asks="who shares in the days to come",
        score="chance of sharing",
        came_true="shared",
        rows="users with an event in the days before each snapshot (`active_days` of the question)",
        limit="It says who shares, not who shares because of a text, and not how many that brings.",
    )

    behaviors: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = Field(
        ("share",), description="behaviors that count as sharing"
    )
    days: Days = Field(7, description="shared = one of them in so many days from the date on")
    active_days: Days = Field(90, description="users with an event in so many days before the date")

    @classmethod
    def training_table(cls) -> str:
        return "purchase_training"

    @classmethod
    def default(cls, settings: Settings) -> Self | None:
        return None  # few logs have a behavior of that name

    @property
    def horizon_days(self) -> int:
        return self.days

    def most_days(self, settings: Settings) -> int:
        return LONGEST_LABEL

    @property
    def label_settings(self) -> dict[str, object]:
        return {**super().label_settings, "behaviors": sorted(set(self.behaviors))}

    def label_sql(self) -> str:
        kinds = map(literal, sorted(set(self.behaviors)))
        within = (f"days_to_behavior[{kind}] < {self.days}" for kind in kinds)
        return f"coalesce({' or '.join(within)}, false)"

    def rows_sql(self) -> str:
        return f"recency_days <= {self.active_days}"

    def active_within(self, settings_days: int) -> int | None:
        return self.active_days

    @property
    def returns(self) -> Returns:
        return Returns(days=self.days, behaviors=self.behaviors)

    def question(self) -> str:
        return (
            f"How likely is a user who was active in the last {self.active_days} days to show a "
            f"behavior of the kind {' or '.join(sorted(set(self.behaviors)))} in the {self.days} "
            "days from the execution date on?"
        )
