"""The control group: a share of the users, drawn by a hash and therefore drawn again alike.

A user's place in [0, 1) is a salted SHA-256 of (namespace, epoch, user), so it is the same on every
machine, engine and re-run, and nobody has to store who was held out. Campaigns that share a
namespace and an epoch hold out the same users (a global control group); another namespace, or the
next epoch, draws afresh and independently.
"""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Arm = Literal["treatment", "control"]

_HEX_DIGITS = 13  # 52 bits: every value, and its quotient by 2**52, is exact in a double
_CELLS: int = 2 ** (4 * _HEX_DIGITS)


class Holdout(BaseModel):
    """How the control group is drawn.

    ``share`` is the probability, in [0, 1), that a user who would have been selected is held out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    namespace: Annotated[str, Field(min_length=1)] = "global"
    epoch: Annotated[str, Field(min_length=1)] = "1"
    share: float = Field(0.1, ge=0, lt=1, allow_inf_nan=False)


def salt(*parts: str) -> str:
    """A hex salt of fixed length; JSON keeps ("a", "bc") and ("ab", "c") apart."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def hash_cell(salted: str, user: str) -> int:
    """The Python reference of :func:`hash_cell_sql`: a whole number in [0, 2**52)."""
    digest = hashlib.sha256(f"{salted}:{user}".encode()).hexdigest()
    return int(digest[:_HEX_DIGITS], 16)


def hash_cell_sql(salted: str, user: str) -> str:
    """DuckDB expression of type BIGINT, uniform over [0, 2**52).

    Args:
        salted: a salt made by :func:`salt`.
        user: the SQL expression of the user id, a VARCHAR.
    """
    return f"cast('0x' || substr(sha256('{salted}:' || {user}), 1, {_HEX_DIGITS}) as bigint)"


def position(holdout: Holdout, user: str) -> float:
    """A user's place in [0, 1) in the draw of a namespace and an epoch."""
    return hash_cell(salt("holdout", holdout.namespace, holdout.epoch), user) / _CELLS


def position_sql(holdout: Holdout, user: str) -> str:
    """DuckDB expression (DOUBLE) equal to :func:`position` to the last bit."""
    cell = hash_cell_sql(salt("holdout", holdout.namespace, holdout.epoch), user)
    return f"(cast({cell} as double) / cast({_CELLS} as double))"


def arm(holdout: Holdout, user: str) -> Arm:
    """The arm of a user: control when the place in the draw is below the share."""
    return "control" if position(holdout, user) < holdout.share else "treatment"


def is_control_sql(holdout: Holdout, user: str) -> str:
    """DuckDB expression (BOOLEAN): whether the user is in the control arm."""
    return f"({position_sql(holdout, user)} < cast('{holdout.share!r}' as double))"


def propensity(holdout: Holdout, of: Arm) -> float:
    """Probability of the arm that a user got: 1 - share for treatment, share for control."""
    return holdout.share if of == "control" else 1.0 - holdout.share
