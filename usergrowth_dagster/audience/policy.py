"""Selection policies: how far down the ranking a campaign reaches.

Candidates are ranked by score, best first; equal scores by a hash of the user id (salted with the
task, so that no user is the eternal first), then by row. Every policy takes a *prefix* of that
ranking: it stops at the first candidate that does not fit, whichever arm that one is in.

The holdout is drawn inside the prefix, and whether a candidate is in the prefix never depends on
the candidate's own arm, only on the arms of those ranked before. So the control users are exactly
those who would have been selected, and the recorded propensity is the true one:

* ``threshold``: score > threshold, strictly, on the double that is written.
* ``top_n``: n is the number *treated*: a candidate fits while fewer than n treatment users rank
  before; the control users passed on the way come on top of n.
* ``budget``: a candidate fits when the cost of the treatment users ranked before, plus its own,
  is within the budget. Control users cost nothing. Money is added in decimals of 1e-9, so that a
  thousand times 0.045 is 45 and not a little more.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, TypeAdapter, ValidationError

from usergrowth_dagster.errors import UserError

MONEY = "decimal(38, 9)"
_RULES = 1  # raise it when the meaning of a policy changes: earlier hashes then no longer match


class _Policy(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    outside: ClassVar[str]

    def fits_sql(self) -> str:
        """DuckDB expression over score, cost, treated_before (BIGINT) and cost_before (MONEY)."""
        raise NotImplementedError

    @property
    def policy_hash(self) -> str:
        """Sixteen hex digits that change whenever the policy selects by another rule."""
        text = json.dumps({"rules": _RULES, **self.model_dump()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Threshold(_Policy):
    """Everyone whose score is above ``threshold``, a probability in (0, 1), exclusive."""

    outside: ClassVar[str] = "below_threshold"

    kind: Literal["threshold"] = "threshold"
    threshold: float = Field(gt=0, lt=1, allow_inf_nan=False)

    def fits_sql(self) -> str:
        # Through text: a numeric literal would be a DECIMAL and could be rounded on its way.
        return f"score > cast('{self.threshold!r}' as double)"


class TopN(_Policy):
    """The best ``n`` treated users, and the control users ranked among them."""

    outside: ClassVar[str] = "not_in_top_n"

    kind: Literal["top_n"] = "top_n"
    n: PositiveInt

    def fits_sql(self) -> str:
        return f"treated_before < {self.n}"


class Budget(_Policy):
    """As many of the best users as ``budget`` (in currency) pays for."""

    outside: ClassVar[str] = "over_budget"

    kind: Literal["budget"] = "budget"
    budget: float = Field(gt=0, lt=1e15, allow_inf_nan=False)

    def fits_sql(self) -> str:
        return f"cost_before + cast(cost as {MONEY}) <= cast('{self.budget!r}' as {MONEY})"


SelectionPolicy = Annotated[Threshold | TopN | Budget, Field(discriminator="kind")]

_ADAPTER: TypeAdapter[Threshold | TopN | Budget] = TypeAdapter(SelectionPolicy)


def parse_policy(
    values: Mapping[str, Any], key_path: str = "selection"
) -> Threshold | TopN | Budget:
    """A policy from a mapping such as ``{"kind": "threshold", "threshold": 0.5}``.

    Raises:
        UserError: a key is unknown, missing or out of its range; the sentence names its path.
    """
    try:
        return _ADAPTER.validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        kinds = {"threshold", "top_n", "budget"}
        path = [str(part) for part in first["loc"]]
        if path and path[0] in kinds:  # pydantic puts the chosen kind first
            path = path[1:]
        raise UserError(f"{'.'.join([key_path, *path])}: {first['msg']}") from None
