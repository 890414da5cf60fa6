"""What each policy would have earned on the same people: the one used, others, everybody, nobody.

Every policy is asked whom it would text, without a control group and without exploring, of the
people who could be texted then (those who passed the checks of
:mod:`usergrowth_dagster.audience.eligibility`), by the very rules that a decision follows. So is
the policy that was used: whom it held out cost nothing then, so that its budget reached further
than it does here, and those whom it chose with them are not those whom it would text without. What
that would have brought is answered by :mod:`usergrowth_dagster.effects.off_policy`.

Returns are those beyond texting nobody. The profit is their worth less the price of the texts,
which is known for everybody, sent or not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.audience.decision_sql import LAST
from usergrowth_dagster.audience.eligibility import OUTCOMES
from usergrowth_dagster.audience.holdout import hash_cell_sql, salt
from usergrowth_dagster.audience.policy import MONEY, Budget, Money, Policy, Threshold, TopN
from usergrowth_dagster.effects.off_policy import Answer, Logged, expected_outcomes, gain
from usergrowth_dagster.effects.result import Estimate, PolicyValue
from usergrowth_dagster.quoting import literals
from usergrowth_dagster.ranks import SCORE, UPLIFT, RankBy
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

COULD_BE_TEXTED = OUTCOMES[OUTCOMES.index("below_threshold") :]
"""Outcomes of the rows that a policy chose among."""
METHOD = "doubly robust"
_OPTIONS = "_policy_options"
_TWINS = 0.005  # policies that differ in fewer of those they text are one


@dataclass(frozen=True)
class Worth:
    """What a return is worth: the amounts after ``margin``, else ``value_per_return``, else none.

    ``currency`` is that of prices and worth.
    """

    has_amount: bool
    margin: float
    value_per_return: float | None
    currency: str

    @property
    def known(self) -> bool:
        """Whether profit can be calculated."""
        return self.has_amount or self.value_per_return is not None


@dataclass(frozen=True)
class Option:
    """A policy to ask; ``policy`` None: nobody, ``everybody``: whoever could be texted."""

    name: str
    policy: Policy | None = None
    everybody: bool = False
    used: bool = False


@dataclass(frozen=True)
class Valued:
    """A policy's worth, with all estimators: over nobody, and over the policy that was used."""

    value: PolicyValue
    returns: Answer
    profit: Answer | None
    beyond_used: Answer


class People:
    """Those who could be texted in one task, bound in an engine.

    Args:
        engine: holds the relation.
        relation: a task's outcomes, with the columns of
            :data:`usergrowth_dagster.effects.outcomes.OUTCOME_COLUMNS`.
        task_id: the task.
        execution_date: its date.
    """

    def __init__(self, engine: Engine, relation: str, task_id: str, execution_date: date) -> None:
        self.engine = engine
        tie = hash_cell_sql(salt("tie", task_id, execution_date.isoformat()), "user_id")
        wanted = literals(COULD_BE_TEXTED)
        engine.run(
            f'create or replace temp table {_OPTIONS} as select "row", user_id, {tie} as tie, '
            "score, uplift, planned_cost as cost, arm = 'treatment' as texted, "
            "case when arm = 'treatment' then propensity else 1 - propensity end as chance, "
            "outcome in ('selected', 'holdout') as chosen, returned, amount, "
            "pre_events, pre_active_days, pre_amount "
            f"from {relation} where outcome in ({wanted})"
        )
        self.has_uplift = bool(engine.value(f"select count(uplift) > 0 from {_OPTIONS}"))
        self.cost = self._column("cost")
        self.chosen = self._column("cast(chosen as double)")
        self.logged = Logged(
            texted=self._column("cast(texted as double)") > 0,
            chance=self._column("chance"),
            outcome=self._column("cast(returned as double)"),
            person=self._column("cast(dense_rank() over (order by user_id) as double)"),
            features=self._features(),
        )
        self.amount = self._column("amount")

    def __len__(self) -> int:
        return len(self.logged)

    def _column(self, sql: str, relation: str = _OPTIONS) -> "Array":
        import numpy as np

        table = self.engine.arrow(f'select coalesce({sql}, 0) as v from {relation} order by "row"')
        return np.asarray(table.column(0).to_numpy(), dtype=np.float64)

    def _features(self) -> "Array":
        import numpy as np

        bounded = "least(greatest(score, 1e-6), 1 - 1e-6)"
        names = [
            *("score", f"ln({bounded} / (1 - {bounded}))", UPLIFT),
            *("ln(1 + pre_events)", "pre_active_days", "ln(1 + greatest(pre_amount, 0))"),
        ]
        return np.column_stack([self._column(name) for name in names])

    def chosen_by(self, option: Option) -> "Array":
        """Whom a policy would text: 1 or 0 for each row, shape (n,)."""
        import numpy as np

        if option.everybody:
            return np.ones(len(self))
        if option.policy is None:
            return np.zeros(len(self))
        if option.used and option.policy.by_uplift and not self.has_uplift:
            return self.chosen  # its uplift is not known any more
        self.engine.run(f"create or replace temp table _chosen as {_chosen_sql(option.policy)}")
        return self._column("cast(chosen as double)", "_chosen")

    def value(self, option: Option, worth: Worth, used: "Array", *, level: float) -> Valued:
        """What a policy would have earned; ``used``: whom the policy that was used texts."""
        texts = self.chosen_by(option)
        cost = round(float((texts * self.cost).sum()), 9)
        expected = self._expected
        returns = gain(self.logged, texts, level=level, expected=expected)
        money, worthy = self._money(worth)
        profit = None if money is None else gain(money, texts, level=level, expected=worthy)
        if money is None:
            beyond = gain(self.logged, texts, used, level=level, expected=expected)
        else:
            beyond = gain(money, texts, used, level=level, expected=worthy)
            beyond = _less(beyond, cost - float((used * self.cost).sum()))
        net = None if profit is None or profit.dr is None else _shift(profit.dr, -cost)
        value = PolicyValue(
            policy=option.name,
            texted=float(texts.sum()),
            cost=cost,
            returns=returns.dr,
            profit=net,
            method=METHOD,
            effective_rows=returns.effective_rows,
            refused=returns.refused or (profit.refused if profit else None),
        )
        return Valued(value, returns, None if profit is None else _less(profit, cost), beyond)

    @cached_property
    def _expected(self) -> "tuple[Array, Array]":
        return expected_outcomes(self.logged)

    @cached_property
    def _expected_amounts(self) -> "tuple[Array, Array]":
        return expected_outcomes(replace(self.logged, outcome=self.amount))

    def _money(self, worth: Worth) -> "tuple[Logged | None, tuple[Array, Array]]":
        """The log with the worth of what came as the outcome, and what is expected of it."""
        if worth.has_amount:
            scale, outcome, expected = worth.margin, self.amount, self._expected_amounts
        elif worth.value_per_return is not None:
            scale, outcome = worth.value_per_return, self.logged.outcome
            expected = self._expected
        else:
            return None, self._expected
        logged = replace(self.logged, outcome=outcome * scale, amounts=worth.has_amount)
        return logged, (expected[0] * scale, expected[1] * scale)


def _chosen_sql(policy: Policy) -> str:
    """Whom a policy would text, by its own rules: every row with ``chosen``."""
    plain = policy.model_copy(update={"explore": 0.0})
    known = "uplift is not null" if plain.by_uplift else "score is not null"
    return f"""
with valued as (
    select *, cast({plain.merit_sql()} as double) as merit,
        cast({plain.net_sql()} as double) as net_value
    from {_OPTIONS} where {known}
),
ranked as (
    select *, row_number() over (order by {plain.order_sql()}, tie, "row") as rank from valued
),
walked as (
    select *, rank - 1 as treated_before,
        coalesce(sum(cast(cost as {MONEY})) over (
            order by rank rows between unbounded preceding and 1 preceding), 0) as cost_before
    from ranked
),
cut as (select coalesce(min(rank), {LAST}) as rank from walked where not ({plain.fits_sql()}))
select "row", coalesce(walked.rank < (select rank from cut), false) as chosen
from {_OPTIONS} left join walked using ("row")"""


def _shift(estimate: Estimate, by: float) -> Estimate:
    """A figure with something certain added to it."""
    low = None if estimate.low is None else estimate.low + by
    high = None if estimate.high is None else estimate.high + by
    return Estimate(estimate.value + by, low, high)


def _less(answer: Answer, cost: float) -> Answer:
    """An answer in money, less a cost that is known."""
    ips, snips, dr = (
        None if one is None else _shift(one, -cost) for one in (answer.ips, answer.snips, answer.dr)
    )
    return replace(answer, ips=ips, snips=snips, dr=dr)


def usual_options(people: People, used: Policy, worth: Worth) -> list[Option]:
    """The policies that are set beside the one that was used, comparable with it in size."""
    decided = Option(f"as it was decided ({words(used, worth.currency)})", used, used=True)
    chosen = people.chosen_by(decided)
    texted, spent = int(chosen.sum()), float((chosen * people.cost).sum())
    options = [
        decided,
        Option("everybody who could be texted", everybody=True),
        *(named(Threshold(threshold=t), worth) for t in _thresholds(people)),
    ]
    ranks: tuple[RankBy, ...] = (SCORE, UPLIFT) if people.has_uplift else (SCORE,)
    for by in ranks:
        if texted:
            options.append(named(TopN(n=texted, rank_by=by), worth))
        if spent > 0:
            options.append(named(Budget(budget=_cents(spent), rank_by=by), worth))
    if people.has_uplift and worth.value_per_return is not None:
        options.append(named(Money(value_per_return=worth.value_per_return), worth))
    return [*_different(people, options), Option("nobody")]


def _different(people: People, options: Sequence[Option]) -> list[Option]:
    """Those that text different people: of several that text nearly the same, the first."""
    kept: list[tuple[Option, Array]] = []
    for option in options:
        texts = people.chosen_by(option)
        if not any(_nearly(texts, other) for _, other in kept):
            kept.append((option, texts))
    return [option for option, _ in kept]


def _nearly(one: "Array", other: "Array") -> bool:
    """Whether two policies text the same but for a few, as rounding a price or a score makes."""
    return bool(abs(one - other).sum() <= _TWINS * max(one.sum(), other.sum()))


def _cents(amount: float) -> float:
    """A budget that is no less than an amount, in whole cents."""
    return ceil(round(amount * 100, 6)) / 100


def _thresholds(people: People) -> list[float]:
    """Scores above which a half, a quarter and a tenth of the people are, in two digits."""
    scores = people.engine.rows(
        f"select unnest(quantile_cont(score, [0.5, 0.75, 0.9])) from {_OPTIONS}"
    )
    rounded = {float(f"{value:.2g}") for (value,) in scores if value is not None}
    return sorted(value for value in rounded if 0 < value < 1)


def named(policy: Policy, worth: Worth) -> Option:
    """A policy with its words as its name."""
    return Option(words(policy, worth.currency), policy)


def words(policy: Policy, currency: str) -> str:
    """A policy in words."""
    if isinstance(policy, Threshold):
        return f"score above {policy.threshold:g}"
    if isinstance(policy, TopN):
        return f"the {policy.n:,} best by {policy.rank_by}"
    if isinstance(policy, Budget):
        return f"{policy.budget:,.2f} {currency} on the best by {policy.rank_by}"
    within = "" if policy.budget is None else f", within {policy.budget:,.2f} {currency}"
    return f"whoever is worth the text at {policy.value_per_return:g} {currency} a return{within}"


def policy_values(
    people: People,
    options: Sequence[Option],
    worth: Worth,
    *,
    level: float = 0.95,
    blocked: str | None = None,
) -> list[Valued]:
    """What each policy would have earned.

    Args:
        people: of the task.
        options: the policies; they are set against the one that was used.
        worth: of a return.
        level: of the intervals.
        blocked: a sentence why nothing may be concluded yet; every answer is refused with it.
    """
    used = next((people.chosen_by(one) for one in options if one.used), people.chosen)
    values = [people.value(option, worth, used, level=level) for option in options]
    return values if blocked is None else [_block(one, blocked) for one in values]


def _block(one: Valued, why: str) -> Valued:
    refused = Answer(one.returns.rows, one.returns.effective_rows, refused=why)
    value = replace(one.value, returns=None, profit=None, refused=why)
    return Valued(value, refused, None if one.profit is None else refused, refused)
