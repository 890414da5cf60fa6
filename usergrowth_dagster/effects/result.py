"""What a campaign's effect came to, as plain values: the report and its JSON are made from these.

Intervals are at the effect's ``level`` (95 % by default). Money is in currency.
"""

from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any, Literal

EVERY_TASK = "*"
"""Task id of an effect of all campaigns together."""

View = Literal["intention_to_treat", "delivered_only"]
Verdict = Literal[
    "works",
    "harms",
    "no_effect_shown",
    "not_yet",
    "nothing_sent",
    "dry_run",
    "no_control",
    "uneven_split",
]
"""What may be concluded; ``uneven_split`` blocks every other conclusion."""


@dataclass(frozen=True)
class ReturnWords:
    """What a return is called: users *came back*, had *come back*, may *come back*."""

    past: str
    participle: str
    infinitive: str


CAME_BACK = ReturnWords("came back", "come back", "come back")
STAYED = ReturnWords("stayed", "stayed", "stay")
"""Of a churn campaign, whose users are active when they are texted."""


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

    ``name`` is ``treatment``, ``control``, or a variant of the text; ``rate`` is 0 without users.
    ``amount`` is the value of their returns, in currency after the margin; ``messages`` are billed
    segments that went out, ``cost`` their price.
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

    ``absolute`` is the difference of return rates as they are, ``adjusted`` the variance-reduced
    estimate of the same (CUPED). ``rests_on`` names the one of the two that conclusions rest on,
    and :attr:`lift` is that one; ``relative`` is it over the control rate (None when nobody of the
    control arm returned). ``value`` and ``value_adjusted`` are the difference of mean values a
    user, in currency after the margin; None when the campaign names neither an amount nor the worth
    of a return. ``returns`` and ``worth`` are the lift and the gain in value, of the kind that
    conclusions rest on, times the users texted: incremental returns, incremental value.

    ``method`` names the interval of ``absolute``, ``level`` is that of every interval here: several
    contrasts share their errors by Bonferroni, and their p-values are Holm's. ``per_delivered`` is
    the effect on those whom the text reached (Wald: absolute over the share reached), if a text
    that did not arrive has no effect. In the view ``delivered_only`` those reached are set against
    the whole control arm; they were not drawn at random, so it proves nothing.
    """

    treated: str
    control: str
    view: View
    absolute: Estimate
    relative: Estimate | None
    adjusted: Estimate
    value: Estimate | None
    value_adjusted: Estimate | None
    returns: Estimate
    worth: Estimate | None
    method: str = "Newcombe"
    level: float = 0.95
    per_delivered: Estimate | None = None
    rests_on: Literal["absolute", "adjusted"] = "absolute"

    @property
    def lift(self) -> Estimate:
        """The difference of return rates that conclusions rest on."""
        return self.adjusted if self.rests_on == "adjusted" else self.absolute


@dataclass(frozen=True)
class SampleRatio:
    """Whether the arms are as large as they were drawn; ``off`` names the arm that is not.

    ``altered``: rows of the decision itself were changed since it was made.
    """

    passed: bool
    p_value: float
    expected: dict[str, float]
    observed: dict[str, int]
    off: str | None
    sentence: str
    altered: bool = False


@dataclass(frozen=True)
class Altered:
    """The decision is not the one that was made: which arm (None: not known), and what is off."""

    off: str | None
    sentence: str


@dataclass(frozen=True)
class Decile:
    """A tenth of the chosen by score, 1 the highest: rates of both arms and their difference.

    An arm without users has no rate, and then there is no lift.
    """

    decile: int
    low_score: float
    high_score: float
    treated: int
    control: int
    treated_rate: float | None
    control_rate: float | None
    lift: Estimate | None
    predicted_uplift: float | None


@dataclass(frozen=True)
class DailyReturns:
    """Users of both arms who had returned by the end of a day, 0 being the execution date."""

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
class ArmPath:
    """The way of one arm's people from the plan to the return, through a text with a link.

    Attributes:
        name: the text, ``treatment`` where there is one, ``control`` or ``explored``.
        channel: how the text goes; None: nothing is sent.
        steps: people by step; None: the arm has no count there, and ``blanks`` says why.
        losses: who was lost at a step, by reason.
        blanks: the reason by step.
        returned: people of everybody planned who returned, clicked or not.
        click_rate: share of everybody planned who clicked, Wilson's interval; None: nobody can.
        bots: people whose link programs alone called.
    """

    name: str
    channel: str | None
    steps: dict[str, int | None]
    losses: list[Loss]
    blanks: dict[str, str]
    returned: int
    click_rate: Estimate | None = None
    bots: int = 0


@dataclass(frozen=True)
class ClickContrast:
    """The click rate of one text less that of another, of everybody planned.

    The interval is at ``level``, after Bonferroni; the p-value is Holm's.
    """

    one: str
    other: str
    difference: Estimate
    level: float


@dataclass(frozen=True)
class ClickPaths:
    """The way of each arm's people, and each pair of texts compared."""

    arms: list[ArmPath]
    contrasts: list[ClickContrast]


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
    """Everything measured of one task.

    ``landed_until`` is the newest landed day of behavior, ``counted_until`` the newest that the
    figures look at: the last analysis that was due, when a campaign plans several. ``level`` is
    that of the intervals; above 95 % at an interim analysis. The first of the ``contrasts`` is the
    whole treatment arm against the control arm by intention to treat, which the verdict rests on;
    without both arms there is none. ``crossover`` counts users by what they got besides (see
    :mod:`usergrowth_dagster.effects.verdict`). ``explored`` are those who were texted at random
    although they were not chosen: paid for, and in no arm. ``stays`` says whether a return means
    that an active user did not fall silent (churn). ``clicks`` is the way of each arm's people, of
    a task whose texts have a link.
    """

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
    counted_until: date | None = None
    explored: ArmFigures | None = None
    stays: bool = False
    clicks: ClickPaths | None = None

    @property
    def words(self) -> ReturnWords:
        """What a return is called."""
        return STAYED if self.stays else CAME_BACK

    @property
    def everything(self) -> bool:
        """Whether the campaigns of a period are measured together."""
        return self.task_id == EVERY_TASK

    @property
    def landed(self) -> bool:
        """Whether any day of the window has landed, so that somebody may be known to be back."""
        return self.landed_until is not None and self.landed_until >= self.window_first

    @property
    def texted_groups(self) -> list[ArmFigures]:
        """Those whose texts are paid for: both arms, and whoever was texted at random."""
        drawn = [arm for arm in self.arms if arm.name in ("treatment", "control")]
        return [*drawn, self.explored] if self.explored is not None else drawn

    @property
    def cost_in_all(self) -> float:
        """Price of every text that went out, in currency; ``money`` is of the treatment arm's."""
        return sum(arm.cost for arm in self.texted_groups)

    @property
    def messages_in_all(self) -> int:
        """Billed segments of every text that went out."""
        return sum(arm.messages for arm in self.texted_groups)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: dates as ISO text."""
        document = asdict(self)
        document |= {"cost_in_all": self.cost_in_all, "messages_in_all": self.messages_in_all}
        if not self.landed:  # nobody can be known to be back, so a rate would say what is not known
            for arm in [*document["arms"], *([document["explored"]] if self.explored else [])]:
                arm["rate"] = None
        for key, value in document.items():
            if isinstance(value, date):
                document[key] = value.isoformat()
        return document
