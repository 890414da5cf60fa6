"""How well a ranking finds those whom a text makes return: Qini and uplift curves, as they are.

Rows are sorted by falling score; rows of equal score enter together. Of the first k rows let
Nt, Nc be the rows of either arm and Yt, Yc their returns.

* Qini curve: ``Yt - Yc * Nt / Nc`` over k (Radcliffe 2007).
* Uplift curve: ``(Yt / Nt - Yc / Nc) * (Nt + Nc)`` over k (Devriendt, Guns & Verbeke 2020).
* Area: that under the curve and above the diagonal, the straight line to the curve's last point,
  which is what a random ranking gives on average. In returns times people.
* ``qini``, ``auuc``: the area over that of the best ranking there is: for the Qini, treated who
  returned first, then those who did not return, then control who returned (``negative_effect``);
  without negative effects the straight line up to all incremental returns, then level. For the
  uplift curve, by scikit-uplift's order of outcome and arm. Equal to scikit-uplift 0.5.1's
  ``qini_auc_score`` and ``uplift_auc_score``, ties included.

A prefix that holds one arm alone compares nobody: as they are, these curves credit it with every
return of its treated rows, which a ranking that foretells the arm can live on. ``guarded`` curves
take such a prefix as the straight line to the first point with rows of both arms, as chance would
have it there; they are what rankings are chosen and judged by, with the best ranking as it is.

With propensities that differ between rows a treated row counts ``q / e`` and a control row
``(1 - q) / (1 - e)``, where e is the row's chance of treatment and q the treated share (stabilized
inverse-propensity weights, Robins, Hernan & Brumback 2000): one each when all are equal to q.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Kind = Literal["qini", "auuc"]


@dataclass(frozen=True)
class Arms:
    """Outcomes of rows of two arms; make it with :func:`arms`, which checks them.

    Attributes:
        y: 1 where the person returned, shape (n,).
        treated: 1 where texted, shape (n,).
        weight: what a row counts for, shape (n,).
    """

    y: "Floats"
    treated: "Floats"
    weight: "Floats"


def arms(
    y: "NDArray[Any]", treated: "NDArray[Any]", propensity: "NDArray[Any] | None" = None
) -> Arms:
    """The rows, checked.

    Args:
        y: 0/1 or bool, shape (n,).
        treated: 0/1 or bool, shape (n,), both arms present.
        propensity: chance of treatment, shape (n,), inside (0, 1); None: the same for all.

    Raises:
        ValueError: shapes differ, values are not 0/1, an arm is empty, a propensity is outside.
    """
    import numpy as np

    outcome, arm = np.asarray(y, dtype=np.float64), np.asarray(treated, dtype=np.float64)
    if outcome.ndim != 1 or outcome.shape != arm.shape:
        raise ValueError(f"outcomes {outcome.shape} and arms {arm.shape} must have one shape (n,)")
    for name, values in (("outcomes", outcome), ("arms", arm)):
        if not np.isin(values, (0.0, 1.0)).all():
            raise ValueError(f"{name} must be 0 or 1")
    share = float(arm.mean()) if len(arm) else 0.0
    if not 0 < share < 1:
        raise ValueError("both arms are needed: some rows treated and some not")
    if propensity is None:
        return Arms(outcome, arm, np.ones_like(outcome))
    chance = np.asarray(propensity, dtype=np.float64)
    if chance.shape != outcome.shape or not ((chance > 0) & (chance < 1)).all():
        raise ValueError("propensities must lie inside (0, 1), one a row")
    weight = np.where(arm == 1, share / chance, (1 - share) / (1 - chance))
    return Arms(outcome, arm, weight)


class Ranking:
    """Rows in the order of one score, ready for the curves of many weightings."""

    def __init__(self, rows: Arms, score: "NDArray[Any]") -> None:
        import numpy as np

        values = np.asarray(score, dtype=np.float64)
        if values.shape != rows.y.shape or not np.isfinite(values).all():
            raise ValueError("scores must be finite numbers, one a row")
        self.order = np.argsort(values, kind="stable")[::-1]
        ranked = values[self.order]
        self.starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        y, treated = rows.y[self.order], rows.treated[self.order]
        self.parts = (treated, 1 - treated, y * treated, y * (1 - treated))

    def points(self, weights: "Floats") -> list["Floats"]:
        """Nt, Nc, Yt, Yc after each distinct score, each (resamples, steps), a 0 in front."""
        import numpy as np

        ordered = weights[:, self.order]
        zero = np.zeros((len(weights), 1))
        return [
            np.cumsum(
                np.hstack([zero, np.add.reduceat(ordered * part, self.starts, axis=1)]), axis=1
            )
            for part in self.parts
        ]

    def curve(
        self, weights: "Floats", kind: Kind, *, guarded: bool = False
    ) -> "tuple[Floats, Floats]":
        """Rows seen and the curve's values, each (resamples, steps + 1)."""
        return curve_of(self.points(weights), kind, guarded=guarded)

    def area(self, weights: "Floats", kind: Kind, *, guarded: bool = False) -> "Floats":
        """Area above the diagonal, one a resample."""
        return above_diagonal(*self.curve(weights, kind, guarded=guarded))


def curve_of(
    points: "Sequence[Floats]", kind: Kind, *, guarded: bool = False
) -> "tuple[Floats, Floats]":
    """Rows seen and the curve's values of :meth:`Ranking.points`."""
    nt, nc, yt, yc = points
    if kind == "qini":
        value = yt - yc * _ratio(nt, nc)
    else:
        value = (_ratio(yt, nt) - _ratio(yc, nc)) * (nt + nc)
    return nt + nc, _straight_until_both(points, value) if guarded else value


def _straight_until_both(points: "Sequence[Floats]", value: "Floats") -> "Floats":
    """Curves whose points before both arms are there lie on the line to the first with both."""
    import numpy as np

    nt, nc = points[:2]
    both = (nt > 0) & (nc > 0)
    first = both.argmax(axis=1)[:, None]
    steep = _ratio(
        np.take_along_axis(value, first, axis=1), np.take_along_axis(nt + nc, first, axis=1)
    )
    return np.where(both, value, steep * (nt + nc))


def above_diagonal(seen: "Floats", value: "Floats") -> "Floats":
    """Area between curves and their diagonals, one a curve."""
    import numpy as np

    whole = np.trapezoid(value, seen, axis=1)
    return np.asarray(whole - seen[:, -1] * value[:, -1] / 2)


def _ratio(part: "Floats", whole: "Floats") -> "Floats":
    """part / whole, 0 where there is nothing."""
    import numpy as np

    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


class Best:
    """The area of the best ranking there is, for any weighting."""

    def __init__(self, rows: Arms, kind: Kind, negative_effect: bool) -> None:
        import numpy as np

        self.kind, self.rows, self.negative_effect = kind, rows, negative_effect
        y, t = rows.y, rows.treated
        if kind == "qini":
            self.rankings = [Ranking(rows, y * t - y * (1 - t))]
        else:
            agree = 2.0 * (y == t)
            self.rankings = [Ranking(rows, agree + t), Ranking(rows, agree + y)]
        self.control_returned = np.asarray(y * (1 - t))
        self.treated_stayed = np.asarray((1 - y) * t)

    def area(self, weights: "Floats") -> "Floats":
        import numpy as np

        if self.kind == "auuc":
            first, second = (ranking.area(weights, "auuc") for ranking in self.rankings)
            swap = weights @ self.control_returned > weights @ self.treated_stayed
            return np.where(swap, second, first)
        if self.negative_effect:
            return self.rankings[0].area(weights, "qini")
        seen, value = self.rankings[0].curve(weights, "qini")
        people, gain = seen[:, -1], value[:, -1]
        gain = np.where(gain > 0, gain, np.nan)  # scikit-learn's auc refuses such a curve
        return np.asarray(gain * gain / 2 + (people - gain) * gain - people * gain / 2)


def _ones(rows: Arms) -> "Floats":
    return rows.weight[None, :]


def curve(
    rows: Arms, score: "NDArray[Any]", kind: Kind = "qini", *, guarded: bool = False
) -> "tuple[Floats, Floats]":
    """Points of a curve: rows seen and value, each (steps + 1,), beginning with (0, 0)."""
    seen, value = Ranking(rows, score).curve(_ones(rows), kind, guarded=guarded)
    return seen[0], value[0]


def area(
    rows: Arms,
    score: "NDArray[Any]",
    kind: Kind = "qini",
    *,
    normalized: bool = True,
    negative_effect: bool = True,
    guarded: bool = False,
) -> float:
    """Qini coefficient or AUUC of a ranking; not normalized: the area itself.

    Args:
        rows: outcomes of both arms.
        score: higher ranks first, shape (n,).
        kind: ``qini`` or ``uplift``.
        normalized: over the best ranking's area; NaN where that is 0.
        negative_effect: whether the best Qini ranking may know whom a text drives away.
        guarded: whether a prefix of one arm alone counts as chance.
    """
    whole = float(Ranking(rows, score).area(_ones(rows), kind, guarded=guarded)[0])
    if not normalized:
        return whole
    best = float(Best(rows, kind, negative_effect).area(_ones(rows))[0])
    return whole / best if best != 0 else float("nan")


def qini(y: Any, score: Any, treated: Any, propensity: Any = None) -> float:
    """The Qini coefficient; 0 is what chance gives, 1 the best ranking there is."""
    return area(arms(y, treated, propensity), score, "qini")


def auuc(y: Any, score: Any, treated: Any, propensity: Any = None) -> float:
    """The normalized area under the uplift curve."""
    return area(arms(y, treated, propensity), score, "auuc")
