"""What a campaign's effect came to, as plain values: the report and its JSON are made from these.

Intervals are at the effect's ``level`` (95 % by default). Money is in currency.
"""

from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any, Literal

View = Literal["intention_to_treat", "delivered_only"]
Verdict = Literal[
    "works",
    "harms",
    "no_effect_shown",
    "not_yet",
    "nothing_sent",
    "no_control",
    "uneven_split",
]
"""What may be concluded; ``uneven_split`` blocks every other conclusion."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval; bounds and p-value are None where there is too little data."""

    value: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None

    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class ArmFigures:
    """One arm: users, those who returned, their amount, and what their texts took.

    ``name`` is ``treatment``, ``control``, or a variant of the text.
    """

    name: str
    users: int
    returned: int
    rate: float
    amount: float
    messages: int
    cost: float
    delivered: int


@dataclass(frozen=True)
class Contrast:
    """One arm against another, in one view.

    ``absolute`` is the difference of return rates (Newcombe), ``relative`` the same over the
    control rate, ``adjusted`` the variance-reduced estimate of ``absolute`` (CUPED), ``value`` and
    ``value_adjusted`` the difference of mean amounts a user. ``returns`` and ``worth`` are absolute
    and value times the users texted: incremental returns, incremental value.
    """

    treated: str
    control: str
    view: View
    absolute: Estimate
    relative: Estimate
    adjusted: Estimate
    value: Estimate
    value_adjusted: Estimate
    returns: Estimate
    worth: Estimate


@dataclass(frozen=True)
class SampleRatio:
    """Whether the arms are as large as they were drawn; ``off`` names the arm that is not."""

    passed: bool
    p_value: float
    expected: dict[str, float]
    observed: dict[str, int]
    off: str | None
    sentence: str


@dataclass(frozen=True)
class Decile:
    """A tenth of the chosen by score: rates of both arms and their difference."""

    decile: int
    low_score: float
    high_score: float
    treated: int
    control: int
    treated_rate: float
    control_rate: float
    lift: Estimate
    predicted_uplift: float | None


@dataclass(frozen=True)
class DailyReturns:
    """Users of both arms who had returned by the end of a day of the window, 1 being the first."""

    day: int
    treated: int
    control: int


@dataclass(frozen=True)
class Loss:
    """Rows that went no further at a step of the funnel, by reason."""

    step: str
    reason: str
    rows: int


@dataclass(frozen=True)
class Funnel:
    """From the upload to the returns; each step is the one before less its losses."""

    steps: dict[str, int]
    losses: list[Loss]


@dataclass(frozen=True)
class MoneyFigures:
    """Cost and what it bought."""

    cost: float
    cost_per_return: float | None
    cost_per_incremental_return: Estimate | None
    profit: Estimate | None


@dataclass(frozen=True)
class PolicyValue:
    """What a policy would have earned on these users, from the logged propensities.

    ``refused`` says why no answer is given; ``effective_rows`` is the effective sample size.
    """

    policy: str
    texted: float
    cost: float
    returns: Estimate | None
    profit: Estimate | None
    method: str
    effective_rows: float
    refused: str | None = None


@dataclass(frozen=True)
class Effect:
    """Everything measured of one task."""

    task_id: str
    campaign: str
    execution_date: date
    window_first: date
    window_last: date
    landed_until: date | None
    complete: bool
    level: float
    looks: int
    currency: str
    arms: list[ArmFigures]
    contrasts: list[Contrast]
    sample_ratio: SampleRatio | None
    crossover: dict[str, int]
    deciles: list[Decile]
    funnel: Funnel
    money: MoneyFigures
    verdict: Verdict
    sentence: str
    policies: list[PolicyValue] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    daily: list[DailyReturns] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: dates as ISO text."""
        found = asdict(self)
        for key, value in found.items():
            if isinstance(value, date):
                found[key] = value.isoformat()
        return found
