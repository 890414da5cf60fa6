"""Who of the scored population is chosen, and who is held out to measure the effect."""

from fractions import Fraction
from typing import Any, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from usergrowth_dagster.control.values import Strict, Word, key_error
from usergrowth_dagster.ranks import SCORE, UPLIFT, RankBy

POLICIES = ("threshold", "top_n", "budget", "money")


class MoneySpec(Strict):
    """Those whose text is worth more than it costs: effect.value_per_return x uplift > cost."""

    budget: float | None = Field(None, gt=0, lt=1e15, description="money for messages; null: any")
    min_profit: float = Field(0.0, ge=0, description="net value that a text must exceed")


class FallbackSpec(Strict):
    """The policy of a campaign that chooses by uplift, as long as no uplift model may score."""

    threshold: float | None = Field(None, gt=0, lt=1, description="selected when score > it")
    top_n: PositiveInt | None = Field(None, description="the n highest scores")
    budget: float | None = Field(None, gt=0, lt=1e15, description="money for messages, best first")

    @model_validator(mode="after")
    def _one(self) -> Self:
        _exactly_one(self, POLICIES[:3])
        return self


class SelectionSpec(Strict):
    """Who of the scored population is chosen; exactly one policy."""

    threshold: float | None = Field(None, gt=0, lt=1, description="selected when score > it")
    top_n: PositiveInt | None = Field(None, description="the n best ranked")
    budget: float | None = Field(None, gt=0, lt=1e15, description="money for messages, best first")
    money: MoneySpec | None = Field(None, description="those whose uplift is worth the text")
    rank_by: RankBy = Field(SCORE, description="of top_n and budget")
    fallback: FallbackSpec | None = Field(None, description="by score, while no uplift model may")
    explore: float = Field(
        0.0, ge=0, le=0.5, description="share of those not chosen who are texted at random"
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        _exactly_one(self, POLICIES)
        if self.rank_by == UPLIFT and self.threshold is not None:
            rule = "a threshold is one of the score; use top_n, budget or money"
            raise key_error("rank_by", rule)
        if self.fallback is not None and not self.by_uplift:
            raise key_error("fallback", "only a choice by uplift has one; remove it")
        return self

    @property
    def by_uplift(self) -> bool:
        """Whether the choice needs an uplift model."""
        return self.money is not None or self.rank_by == UPLIFT

    @property
    def spending_limit(self) -> float | None:
        """The most that one decision may spend, by its policy or the fallback; None: any sum."""
        own = self.money.budget if self.money else self.budget
        if self.fallback is None:
            return own
        other = self.fallback.budget
        return None if own is None or other is None else max(own, other)


def _exactly_one(spec: Strict, names: tuple[str, ...]) -> None:
    given = [key for key in names if getattr(spec, key) is not None]
    if len(given) != 1:
        raise ValueError(
            f"needs exactly one of {', '.join(names[:-1])} and {names[-1]}, "
            + (f"not {' and '.join(given)}" if given else "but has none")
        )


LARGEST_BLOCK = 100
"""A stratified share is a fraction with a denominator up to this."""


def block_of(share: float) -> Fraction:
    """A stratified share as so many of a block of people: 0.15 is 3 of 20.

    Raises:
        ValueError: it is no fraction with a denominator up to :data:`LARGEST_BLOCK`.
    """
    found = Fraction(share).limit_denominator(LARGEST_BLOCK)
    if abs(float(found) - share) > 1e-12:
        raise ValueError(
            f"with strata it is so many of a block of at most {LARGEST_BLOCK} people, such "
            f"as 0.1, 0.15 or 0.125, which {share!r} is not"
        )
    return found


class HoldoutSpec(Strict):
    """The control group that is chosen but not texted, so that the effect can be measured.

    Only who is texted can refuse, and who refused is not chosen again: a draw that is kept loses
    people of one arm, campaign after campaign. So by default each week has its own.
    """

    share: float = Field(0.1, ge=0, lt=1, description="share of the chosen who are held out")
    namespace: Word = Field("global", description="campaigns of one namespace share their draw")
    epoch: Word = Field("1", description="another epoch draws the group again")
    rotate_days: PositiveInt | None = Field(
        7, description="the draw is made afresh every so many days; null: only with the epoch"
    )
    strata: list[Word] = Field(
        [], max_length=3, description="activity, tenure, user_type, or an attribute of the users"
    )

    @model_validator(mode="after")
    def _drawable(self) -> Self:
        if self.strata:
            try:
                block_of(self.share)
            except ValueError as error:
                raise key_error("share", str(error)) from None
        if len(set(self.strata)) < len(self.strata):
            raise key_error("strata", "names each of them once")
        return self

    @field_validator("namespace", "epoch", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
