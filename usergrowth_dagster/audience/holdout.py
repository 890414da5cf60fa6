"""The control groups: shares of the users, drawn by a hash and therefore drawn again alike.

A user's place in [0, 1) is a salted SHA-256 of (namespace, epoch, user), so it is the same on every
machine, engine and re-run, and nobody has to store who was held out. Campaigns that share a
namespace and an epoch hold out the same users; another namespace, or the next epoch, draws afresh
and independently.

There are two draws, with salts of their own and so independent: the campaign's, and the global one,
whose users no campaign texts. A user who could be texted with chances 1 - h and 1 - g is in the
treatment arm with (1 - g)(1 - h).

A draw that rotates is made afresh every so many days, counted from :data:`ORIGIN` and not from the
first use: so it is the same all over a period, on any machine and for any campaign. A draw that
does not rotate loses people of one arm: only who is texted can refuse, and who refused is chosen no
more.

With ``strata`` the campaign's draw is not by user, but by place in the ranking; see
:mod:`usergrowth_dagster.audience.draw`.
"""

import hashlib
import json
from datetime import date, timedelta
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from usergrowth_dagster.control.campaign_blocks import block_of

Arm = Literal["treatment", "control"]

ORIGIN = date(2001, 1, 1)
"""A Monday, so that a rotation of seven days changes on Mondays."""
_HEX_DIGITS = 13  # 52 bits: every value, and its quotient by 2**52, is exact in a double
_CELLS: int = 2 ** (4 * _HEX_DIGITS)
_SALTS = {"campaign": "holdout", "global": "global_holdout"}


class Holdout(BaseModel):
    """How a control group is drawn.

    ``share`` is the probability, in [0, 1), that a user who would have been selected is held out;
    ``epoch`` is the one in force, as :func:`epoch_in_force` says; ``strata`` names what the draw is
    balanced by.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scope: Literal["campaign", "global"] = "campaign"
    namespace: Annotated[str, Field(min_length=1)] = "global"
    epoch: Annotated[str, Field(min_length=1)] = "1"
    share: float = Field(0.1, ge=0, lt=1, allow_inf_nan=False)
    strata: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _drawable(self) -> Self:
        if self.strata and self.scope == "global":
            raise ValueError("the global control group is drawn by user, without strata")
        if self.strata:
            block_of(self.share)
        return self


NOBODY = Holdout(scope="global", share=0)
"""No global control group."""


def epoch_in_force(epoch: str, rotate_days: int | None, day: date) -> str:
    """What a day's draw is salted with: the epoch and, if it rotates, the number of the period.

    >>> epoch_in_force("1", 7, date(2001, 1, 7)), epoch_in_force("1", 7, date(2001, 1, 8))
    ('1/0', '1/1')
    """
    if rotate_days is None:
        return epoch
    return f"{epoch}/{(day - ORIGIN).days // rotate_days}"


def drawn_on(rotate_days: int | None, day: date) -> date | None:
    """First day of the draw that is in force on a day; None for a draw that does not rotate.

    >>> drawn_on(7, date(2001, 1, 7)), drawn_on(None, date(2001, 1, 7))
    (datetime.date(2001, 1, 1), None)
    """
    if rotate_days is None:
        return None
    return day - timedelta(days=(day - ORIGIN).days % rotate_days)


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


def _salt_of(holdout: Holdout) -> str:
    return salt(_SALTS[holdout.scope], holdout.namespace, holdout.epoch)


def position(holdout: Holdout, user: str) -> float:
    """A user's place in [0, 1) in the draw of a namespace and an epoch."""
    return hash_cell(_salt_of(holdout), user) / _CELLS


def position_sql(holdout: Holdout, user: str) -> str:
    """DuckDB expression (DOUBLE) equal to :func:`position` to the last bit."""
    cell = hash_cell_sql(_salt_of(holdout), user)
    return f"(cast({cell} as double) / cast({_CELLS} as double))"


def arm(holdout: Holdout, user: str) -> Arm:
    """The arm of a user: control when the place in the draw is below the share."""
    return "control" if position(holdout, user) < holdout.share else "treatment"


def is_control_sql(holdout: Holdout, user: str) -> str:
    """DuckDB expression (BOOLEAN): whether the user is in the control arm."""
    return f"({position_sql(holdout, user)} < cast('{holdout.share!r}' as double))"


def propensity(holdout: Holdout, of: Arm, global_holdout: Holdout = NOBODY) -> float:
    """Probability of the arm that a user got, by two independent draws of shares h and g.

    (1 - g)(1 - h) for treatment; g + h - g h for control.
    """
    g, h = global_holdout.share, holdout.share
    return g + h - g * h if of == "control" else (1.0 - g) * (1.0 - h)
