"""Selection policies: how candidates are ranked, and how far down the ranking a campaign reaches.

Candidates are ranked by what the policy looks at, best first; equals by a hash of the user id
(salted with the task, so that no user is the eternal first), then by row. Every policy takes a
*prefix* of that ranking: it stops at the first candidate that does not fit, whichever arm that one
is in.

The holdout is drawn inside the prefix, and whether a candidate is in the prefix never depends on
the candidate's own arm (:mod:`usergrowth_dagster.audience.draw` says how). So the control users are
exactly those who would have been selected, and the recorded propensity is the true one:

* ``threshold``: score > threshold, strictly, on the double that is written.
* ``top_n``: n is the number *treated*, by score or by uplift: a candidate fits while fewer than n
  treatment users rank before; the control users passed on the way come on top of n.
* ``budget``: by score or by uplift; a candidate fits when the cost of the treatment users ranked
  before, plus its own, is within the budget. Control users cost nothing. Money is added in decimals
  of 1e-9, so that a thousand times 0.045 is 45 and not a little more.
* ``money``: a text is worth ``value_per_return`` x uplift, what it adds to the returns, and its net
  value is that less its cost. Those above ``min_profit`` are ranked by worth over cost, and paid
  for from the budget if there is one. That is the greedy solution of the fractional knapsack
  problem (Dantzig, "Discrete-variable extremum problems", Operations Research 5, 1957, p. 275): it
  is short of the best possible by less than the one candidate that no longer fits.

With ``explore``, a share of the candidates below the cut are texted at random
(:mod:`usergrowth_dagster.audience.explore`). That share of a budget is set aside for them, and the
ranking is paid from the rest.
"""

import hashlib
import json
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, TypeAdapter, ValidationError

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.ranks import SCORE, UPLIFT, RankBy

MONEY = "decimal(38, 9)"
_CENT = Decimal("1e-9")
_RULES = 2  # raise it when the meaning of a policy changes: earlier hashes then no longer match


class _Policy(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    explore: float = Field(0.0, ge=0, le=0.5, allow_inf_nan=False)

    @property
    def by_uplift(self) -> bool:
        """Whether candidates need an uplift; one without it is known too little of."""
        return False

    @property
    def purse(self) -> Decimal | None:
        """All the money that may be spent, explored rows included; None: any."""
        return None

    def merit_sql(self) -> str:
        """DuckDB expression (DOUBLE) over score, uplift and cost: higher ranks before."""
        return UPLIFT if self.by_uplift else SCORE

    def net_sql(self) -> str:
        """DuckDB expression (DOUBLE) over uplift and cost: the net value, or NULL."""
        return "null"

    def order_sql(self) -> str:
        """What to order by, over merit and net_value; ties are the caller's."""
        return "merit desc"

    def fits_sql(self) -> str:
        """DuckDB expression over score, net_value, cost, treated_before and cost_before (MONEY)."""
        raise NotImplementedError

    def outside_sql(self) -> str:
        """DuckDB expression over net_value: the outcome of a candidate below the cut."""
        raise NotImplementedError

    @property
    def policy_hash(self) -> str:
        """Sixteen hex digits that change whenever the policy selects by another rule."""
        text = json.dumps({"rules": _RULES, **self.model_dump()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _within_sql(self) -> str:
        """Whether the candidate can be paid from what is not set aside for exploring."""
        if self.purse is None:
            return "true"
        # The part set aside is rounded up, so both parts together are the budget.
        aside = (self.purse * Decimal(repr(self.explore))).quantize(_CENT, ROUND_CEILING)
        return f"cost_before + cast(cost as {MONEY}) <= cast('{self.purse - aside:f}' as {MONEY})"


class Threshold(_Policy):
    """Everyone whose score is above ``threshold``, a probability in (0, 1), exclusive."""

    kind: Literal["threshold"] = "threshold"
    threshold: float = Field(gt=0, lt=1, allow_inf_nan=False)

    def fits_sql(self) -> str:
        return f"score > {_double(self.threshold)}"

    def outside_sql(self) -> str:
        return "'below_threshold'"


class TopN(_Policy):
    """The best ``n`` treated users, and the control users ranked among them."""

    kind: Literal["top_n"] = "top_n"
    n: PositiveInt
    rank_by: RankBy = SCORE

    @property
    def by_uplift(self) -> bool:
        return self.rank_by == UPLIFT

    def fits_sql(self) -> str:
        return f"treated_before < {self.n}"

    def outside_sql(self) -> str:
        return "'not_in_top_n'"


class Budget(_Policy):
    """As many of the best users as ``budget`` (in currency) pays for."""

    kind: Literal["budget"] = "budget"
    budget: float = Field(gt=0, lt=1e15, allow_inf_nan=False)
    rank_by: RankBy = SCORE

    @property
    def by_uplift(self) -> bool:
        return self.rank_by == UPLIFT

    @property
    def purse(self) -> Decimal:
        return _money(self.budget)

    def fits_sql(self) -> str:
        return self._within_sql()

    def outside_sql(self) -> str:
        return "'over_budget'"


class Money(_Policy):
    """Those whose net value is above ``min_profit``, by return on spend, within ``budget`` if any.

    ``value_per_return``, ``min_profit`` and ``budget`` are in currency.
    """

    kind: Literal["money"] = "money"
    value_per_return: float = Field(gt=0, lt=1e15, allow_inf_nan=False)
    min_profit: float = Field(0.0, ge=0, lt=1e15, allow_inf_nan=False)
    budget: float | None = Field(None, gt=0, lt=1e15, allow_inf_nan=False)

    @property
    def by_uplift(self) -> bool:
        return True

    @property
    def purse(self) -> Decimal | None:
        return None if self.budget is None else _money(self.budget)

    @property
    def _worth(self) -> str:
        return f"{_double(self.value_per_return)} * uplift"

    def merit_sql(self) -> str:
        # A text that costs nothing is worth infinitely more than it costs, or nothing.
        free = f"cast(case when {self._worth} > 0 then 'inf' else '-inf' end as double)"
        return f"case when cost > 0 then {self._worth} / cost else {free} end"

    def net_sql(self) -> str:
        return f"{self._worth} - cost"

    @property
    def _profitable(self) -> str:
        return f"(net_value > {_double(self.min_profit)})"

    def order_sql(self) -> str:
        # By net value last: texts that cost nothing are all alike by worth over cost.
        return f"{self._profitable} desc, merit desc, net_value desc"

    def fits_sql(self) -> str:
        return f"{self._profitable} and {self._within_sql()}"

    def outside_sql(self) -> str:
        return f"case when {self._profitable} then 'over_budget' else 'not_profitable' end"


def _double(value: float) -> str:
    # Through text: a numeric literal would be a DECIMAL and could be rounded on its way.
    return f"cast('{value!r}' as double)"


def _money(value: float) -> Decimal:
    return Decimal(repr(value)).quantize(_CENT)


Policy = Threshold | TopN | Budget | Money
SelectionPolicy = Annotated[Policy, Field(discriminator="kind")]
KINDS = ("threshold", "top_n", "budget", "money")

_ADAPTER: TypeAdapter[Policy] = TypeAdapter(SelectionPolicy)


def parse_policy(values: Mapping[str, Any], key_path: str = "selection") -> Policy:
    """A policy from a mapping such as ``{"kind": "threshold", "threshold": 0.5}``.

    Raises:
        UserError: a key is unknown, missing or out of its range; the sentence names its path.
    """
    try:
        return _ADAPTER.validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        path = [str(part) for part in first["loc"]]
        if path and path[0] in KINDS:  # pydantic puts the chosen kind first
            path = path[1:]
        raise UserError(
            f"{'.'.join([key_path, *path])}: {first['msg']}", code="campaign.invalid"
        ) from None
