"""Who shares: one of the named behaviors of a user in the days from the snapshot on."""

from typing import Annotated, Self

from pydantic import Field

from usergrowth_dagster.learning.problems.base import Days, Words
from usergrowth_dagster.learning.problems.purchase import Purchase
from usergrowth_dagster.settings import Settings


class Sharing(Purchase):
    """Who shares within so many days.

    It asks what the question of purchases asks, of other behaviors, and learns from its rows.

    Attributes:
        behaviors: kinds of behavior that count as sharing, one at least.
        days: shared = one of them in ``[S, S + days - 1]``.
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
        stage="referral",
    )

    behaviors: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = Field(
        ("share",), description="behaviors that count as sharing"
    )
    days: Days = Field(7, description="shared = one of them in so many days from the date on")

    @classmethod
    def training_table(cls) -> str:
        return "purchase_training"

    @classmethod
    def default(cls, settings: Settings) -> Self | None:
        return None  # few logs have a behavior of that name
