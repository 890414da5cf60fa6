"""Who comes back after a text: behavior in the days after a touch."""

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from usergrowth_dagster.learning.problems.base import Asked, Block, Returns, Words
from usergrowth_dagster.learning.problems.touches import TouchProblem
from usergrowth_dagster.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from usergrowth_dagster.learning.encoding import Feature, FeatureSpec
    from usergrowth_dagster.learning.rows import Slice

RETURN_DAYS = 28


class WinbackBlock(Block):
    """Who comes back after a text."""

    earlier = ("churn_days",)

    kind: Literal["winback"]
    op_target: str | None = Field(None, description="kind of touch; null = any")
    return_days: PositiveInt | None = Field(None, le=90, description="default 28")
    return_behaviors: list[str] | None = Field(
        None, min_length=1, description="behaviors that count as a return; null = any"
    )
    return_on_item: bool | None = Field(
        None, description="only behaviors on the touched item count as a return"
    )
    same_day: bool | None = Field(
        None, description="behavior on the day of the touch counts as a return too"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.return_days is None:
            object.__setattr__(self, "return_days", RETURN_DAYS)
        return self

    @property
    def returns(self) -> Returns:
        kinds = None if self.return_behaviors is None else tuple(self.return_behaviors)
        return Returns(self.return_days, kinds, self.return_on_item, self.same_day)


class Winback(TouchProblem):
    """Who comes back after a text."""

    name = "winback"
    asked_before = "86fe3f94915ad4ce"
    aliases = ("sms_recall", "recall", "win-back")
    campaign_block = WinbackBlock
    promotions_only = True
    ranking_only = ("past_response",)
    words = Words(
        asset="How likely a user is to come back when texted.",
        asks="who comes back after a text",
        score="chance of coming back",
        came_true="came back",
        rows="users who were touched; each touch is a row",
        limit="It was fitted on touches that were chosen by someone, not drawn: it says who "
        "answers, not who answers because of the touch.",
        first="the first touch that counts",
        shorter="return_days",
        stage="retention",
    )

    @classmethod
    def of(cls, asked: Asked, settings: Settings) -> Self:
        block = asked.block
        assert isinstance(block, WinbackBlock)
        return cls(
            op_target=block.op_target,
            return_days=block.return_days or RETURN_DAYS,
            return_behaviors=tuple(block.return_behaviors or ()),
            return_on_item=bool(block.return_on_item),
            same_day=bool(block.same_day),
        )

    def baseline_scores(
        self, spec: "FeatureSpec", rows: "Slice"
    ) -> "dict[str, NDArray[np.float64]]":
        """``past_response``: share of the user's past touches that were answered."""
        import numpy as np

        rate = _feature(spec, "item_answer_rate")
        touches = _feature(spec, "touches_lookback")
        kinds = [_feature(spec, "touches_answered", kind) for kind in self.return_behaviors]
        answered = [] if self.return_on_item else [f for f in kinds if f is not None]
        if touches is not None and answered:
            count = rows.frame[touches.name].to_numpy(dtype=np.float64)
            hits = rows.frame[[f.name for f in answered]].to_numpy(dtype=np.float64).max(axis=1)
            share: Any = np.where(count > 0, hits / np.maximum(count, 1), 0.0)
            return {"past_response": share}
        if rate is None:
            return {}
        known = rows.frame[rate.name].to_numpy(dtype=np.float64)
        return {"past_response": np.asarray(np.nan_to_num(known))}


def _feature(spec: "FeatureSpec", column: str, key: str | None = None) -> "Feature | None":
    return next((f for f in spec.features if f.column == column and f.key == key), None)
