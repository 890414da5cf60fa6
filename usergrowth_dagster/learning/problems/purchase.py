"""Who buys: one of the named behaviors of a user in the days from the snapshot on."""

from typing import Annotated

from pydantic import Field

from usergrowth_dagster.learning.problems.base import LONGEST_LABEL, Days, Problem, Returns, Words
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.settings import Settings

Behaviors = Annotated[tuple[str, ...], Field(strict=False)]


class Purchase(Problem):
    """Who buys within so many days.

    Attributes:
        behaviors: kinds of behavior that count as buying; empty: any.
        days: bought = one of them in ``[S, S + days - 1]``.
        active_days: days before S in which a user must have been active.
    """

    name = "purchase"
    words = Words(
        asset="How likely a user is to buy in the days from the execution date on.",
        asks="who buys in the days to come",
        score="chance of buying",
        came_true="bought",
        rows="users with an event in the days before each snapshot (`active_days` of the question)",
        limit="It says who buys, not who buys because of a text.",
        stage="revenue",
    )

    behaviors: Behaviors = Field((), description="behaviors that count as buying; empty = any")
    days: Days = Field(30, description="bought = one of them in so many days from the date on")
    active_days: Days = Field(90, description="users with an event in so many days before the date")

    @property
    def horizon_days(self) -> int:
        return self.days

    def most_days(self, settings: Settings) -> int:
        return LONGEST_LABEL

    @property
    def label_settings(self) -> dict[str, object]:
        return {**super().label_settings, "behaviors": sorted(set(self.behaviors))}

    def label_sql(self) -> str:
        if not self.behaviors:
            first = f"coalesce(list_min(map_values(days_to_behavior)), {self.days})"
            return f"{first} < {self.days}"
        kinds = map(literal, sorted(set(self.behaviors)))
        within = (f"days_to_behavior[{kind}] < {self.days}" for kind in kinds)
        return f"coalesce({' or '.join(within)}, false)"

    def rows_sql(self) -> str:
        return f"recency_days <= {self.active_days}"

    def active_within(self, settings_days: int) -> int | None:
        return self.active_days

    @property
    def returns(self) -> Returns:
        return Returns(days=self.days, behaviors=self.behaviors or None)

    def question(self) -> str:
        what = f"show a behavior of the kind {' or '.join(self.behaviors)}"
        return (
            f"How likely is a user who was active in the last {self.active_days} days to "
            f"{what if self.behaviors else 'do anything'} in the {self.days} days from the "
            "execution date on?"
        )
