"""Who is about to fall silent: no behavior of an active user in the days from the snapshot on."""

from typing import ClassVar, Literal, Self

from pydantic import Field, PositiveInt

from usergrowth_dagster.learning.problems.base import Asked, Block, Days, Problem, Words
from usergrowth_dagster.settings import Settings


class ChurnBlock(Block):
    """Who is about to fall silent."""

    earlier = ("op_target", "return_days", "return_behaviors", "return_on_item", "same_day")

    kind: Literal["churn"]
    churn_days: PositiveInt | None = Field(None, le=90, description="default by setting")


class Churn(Problem):
    """Who is about to fall silent.

    Attributes:
        churn_days: churned = no behavior in ``[S, S + churn_days - 1]``; days.
    """

    name = "churn"
    asked_before = "ad2616ffa8c00466"
    aliases = ("sms_churn", "churn_predict")
    campaign_block = ChurnBlock
    staying = True
    earlier: ClassVar = {
        "op_target": None,
        "return_days": 28,
        "return_behaviors": [],
        "return_on_item": False,
        "same_day": False,
    }
    words = Words(
        asset="How likely a user is to go silent from the execution date on.",
        asks="who is about to fall silent",
        score="chance of falling silent",
        came_true="churned",
        rows="users with an event in the weeks before each snapshot (setting `active_days`)",
        limit="It says who goes silent, not whom a text would keep.",
        shorter="churn_days",
        stage="retention",
    )

    churn_days: Days = 7

    @classmethod
    def of(cls, asked: Asked, settings: Settings) -> Self:
        block = asked.block
        assert isinstance(block, ChurnBlock)
        return cls(churn_days=block.churn_days or settings.churn_days)

    @classmethod
    def default(cls, settings: Settings) -> Self | None:
        return cls(churn_days=settings.churn_days)

    @property
    def horizon_days(self) -> int:
        return self.churn_days

    def label_sql(self) -> str:
        return f"has_churned(days_to_next, {self.churn_days})"

    def active_within(self, settings_days: int) -> int | None:
        return settings_days

    def question(self) -> str:
        return (
            "How likely is a user who was active lately to do nothing at all in the "
            f"{self.churn_days} days from the execution date on?"
        )
