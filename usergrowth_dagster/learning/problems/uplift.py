"""Whom a text makes return who would not have: the effect, learned from both arms of draws."""

from typing import Self

from usergrowth_dagster.learning.problems.base import Asked, Words
from usergrowth_dagster.learning.problems.touches import TouchProblem
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.settings import Settings


class Uplift(TouchProblem):
    """Whom a text makes return.

    No campaign names it as its question: one that chooses by the effect of a text asks for it. The
    outcome is that of the campaign's ``effect``, so that what is predicted is what is measured.
    """

    name = "uplift"
    asked_before = "a543cb612e47008c"
    target = "effect"
    asked_in_campaigns = False
    beside_touches = ", and the people held out from them with their chances,"
    words = Words(
        asset="Whom a text makes return who would not have: learners of the effect and naive "
        "rankings beside them, learned from those texted and those held out, with the chances "
        "they were drawn by.",
        asks="whom a text makes return",
        score="what a text adds to the chance of a return",
        rows="users who were touched, and users who were held out",
        first="the first touch that counts",
        shorter="return_days",
        stage="retention",
    )

    @classmethod
    def is_asked(cls, asked: Asked) -> bool:
        return asked.by_effect

    @classmethod
    def of(cls, asked: Asked, settings: Settings) -> Self:
        returns = asked.returns
        return cls.model_validate(
            {
                "op_target": asked.channel,
                "return_days": returns.days,
                "return_behaviors": returns.behaviors or (),
                "return_on_item": bool(returns.on_item),
                "same_day": bool(returns.same_day),
            }
        )

    @classmethod
    def default(cls, settings: Settings) -> Self | None:
        return None  # an effect needs a control group, so a campaign

    def kind_sql(self) -> str:
        """The rows of this kind of touch; of people held out, those who would have had it."""
        if self.op_target is None:
            return "true"
        kind = literal(self.op_target)
        return f"case when treated then target else coalesce(channel, {kind}) end = {kind}"

    def rows_sql(self) -> str:
        """An effect is learned from rows that could have been in either arm."""
        return f"propensity > 0 and propensity < 1 and {self.kind_sql()}"
