"""Probabilities that mean what they say: a monotone map from a model's raw score.

The map is fitted on rows the model was not fitted on: a later slice of time, or forward folds. It
works on the logit scale, z = log(p / (1 − p)), simplest first:

* ``identity``: z' = z; the model is calibrated as it is.
* ``offset``: z' = a + z; the level has moved, the order and the spread are right.
* ``sigmoid``: z' = a + b z with b > 0 (Platt 1999, on the logit).
* ``isotonic``: pool-adjacent-violators on z (Zadrozny & Elkan 2002), blocks merged until each holds
  a fair number of rows of both classes, then **centered** (Oron & Flournoy 2017): linear between
  block centers instead of a staircase, so that rows keep their order and few scores tie. Beyond the
  outermost centers the map goes on parallel to the identity.

:func:`choose_method` takes the simplest that later rows do not clearly speak against.

The figures of the test slice are of that map. What scores after D has a newer one, fitted again on
every label that is closed by D: on all rows that the pipeline was not fitted on, the test slice
included. :func:`replayed` says how good that habit is: within the test slice each stretch of days
is scored by the map that could have been fitted on its first morning.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Method = Literal["identity", "offset", "sigmoid", "isotonic"]
METHODS: tuple[Method, ...] = ("identity", "offset", "sigmoid", "isotonic")  # simplest first
ISOTONIC_MIN = 1000  # rows of each class from which the isotonic map is trusted
BLOCK_ROWS, BLOCK_CLASS = 200, 20  # least rows, and least rows of each class, of one block
BLOCKS = 5  # stretches of time that a choice compares
CLIP = 1e-6
END = 14.0  # beyond the logit of CLIP

RAW, BEFORE = "no map", "map from before the test slice"
AGAIN, LEVEL = "map fitted again as labels close", "level refreshed as labels close"
STRETCHES = 8  # of the test slice, at most
LEAST_OF_CLASS = 20  # rows of each class that a level rests on


def logit(p: "NDArray[Any]") -> "Floats":
    """log(p / (1 − p)), p clipped to [1e-6, 1 − 1e-6]."""
    import numpy as np

    clipped = np.clip(np.asarray(p, dtype=np.float64), CLIP, 1 - CLIP)
    out: Floats = np.log(clipped) - np.log1p(-clipped)
    return out


def choose_method(
    p: "NDArray[Any]",
    label: "NDArray[Any]",
    day: "NDArray[np.datetime64] | None" = None,
    *,
    weight: "Floats | None" = None,
    horizon_days: int = 1,
    same_model: bool = True,
) -> Method:
    """The simplest map that is not clearly worse on later held-out rows.

    The rule is fixed beforehand. The rows are cut by time into at most five blocks. Each map is
    fitted on the rows whose labels were closed before a block and scored by log-loss on the block,
    so a shift of the level that one stretch of time shows and the next does not is no map. Of the
    maps within one standard error of the best the simplest is taken; within two of it where the
    rows were scored by stand-ins, the models of forward folds, whose shift is partly their own. The
    error is that of the paired difference: the larger one of rows, taken as independent, and of
    blocks. The isotonic map is a candidate from 1,000 rows of each class on.

    Where the labels leave fewer than two blocks with closed rows before them, each block is scored
    by maps that were fitted on all others.

    Args:
        p: raw scores, shape (n,), in order of time.
        label: 0/1, shape (n,).
        day: of each row, rising, shape (n,) as datetime64[D]; None takes rows of equal days.
        weight: rows of the population that each one stands for, shape (n,); None: one each.
        horizon_days: days until a row's label is closed.
        same_model: whether the scores are of the model that the map is for.
    """
    import numpy as np

    pairs = _forward_pairs(len(label), day, horizon_days)
    if min((_rarer(label[fit]) for fit, _ in pairs), default=0) < 1:
        return "identity"
    block = np.concatenate([np.full(len(held), i) for i, (_, held) in enumerate(pairs)])
    losses: dict[Method, Floats] = {}
    for method in METHODS:
        if method == "isotonic" and _rarer(label) < ISOTONIC_MIN:
            continue
        parts = []
        for fit, held in pairs:
            knots = fit_knots(p[fit], label[fit], method, _of(weight, fit))
            loss = _losses(apply_knots(p[held], knots), label[held])
            parts.append(loss if weight is None else loss * weight[held])
        losses[method] = np.concatenate(parts)
    best = min(losses, key=lambda method: losses[method].mean())
    errors = 1 if same_model else 2
    for method, loss in losses.items():
        behind = loss - losses[best]
        if behind.mean() <= errors * _error(behind, block):
            return method
    return best


def _forward_pairs(
    rows: int, day: "NDArray[np.datetime64] | None", horizon_days: int
) -> "list[tuple[NDArray[np.int64], NDArray[np.int64]]]":
    """Pairs (rows to fit on, later rows) of the rule of :func:`choose_method`."""
    import numpy as np

    if day is None:
        part = np.arange(rows) * BLOCKS // rows
        ends = range(1, BLOCKS)
        before = [(np.flatnonzero(part < b), np.flatnonzero(part == b)) for b in ends]
        return [(fit, later) for fit, later in before if len(fit) and len(later)]
    days = np.unique(day)
    chunks = [chunk for chunk in np.array_split(days, BLOCKS) if len(chunk)]
    held = [np.flatnonzero((day >= chunk[0]) & (day <= chunk[-1])) for chunk in chunks]
    closed = [np.flatnonzero(day + np.timedelta64(horizon_days, "D") <= c[0]) for c in chunks]
    pairs = [(fit, later) for fit, later in zip(closed, held, strict=True) if len(fit)]
    if len(pairs) >= 2:
        return pairs
    block = np.arange(rows) * BLOCKS // rows
    return [(np.flatnonzero(block != b), np.flatnonzero(block == b)) for b in range(BLOCKS)]


def _error(values: "Floats", block: "NDArray[np.int64]") -> float:
    """Standard error of a mean: the larger one of rows and of blocks, if there are three."""
    import numpy as np

    of_rows = float(values.std() / np.sqrt(len(values)))
    count = int(block.max()) + 1
    if count < 3:
        return of_rows
    sums = np.bincount(block, weights=values - values.mean())
    of_blocks = float(np.sqrt((sums**2).sum() * count / (count - 1)) / len(values))
    return max(of_rows, of_blocks)


def _of(weight: "Floats | None", places: "NDArray[Any]") -> "Floats | None":
    """The weights of some rows."""
    return None if weight is None else weight[places]


def _rarer(label: "NDArray[Any]") -> int:
    """Rows of the rarer class."""
    positives = int(label.sum())
    return min(positives, len(label) - positives)


def _losses(p: "Floats", label: "NDArray[Any]") -> "Floats":
    """The log-loss of each row."""
    import numpy as np

    q = np.clip(p, CLIP, 1 - CLIP)
    out: Floats = -np.log(np.where(label > 0, q, 1 - q))
    return out


def fit_knots(
    p: "NDArray[Any]", label: "NDArray[Any]", method: Method, weight: "Floats | None" = None
) -> tuple["Floats", "Floats"]:
    """Fit the map.

    Args:
        p: raw scores in [0, 1], shape (n,).
        label: 0/1, shape (n,), both classes present.
        method: see the module.
        weight: rows of the population that each one stands for, shape (n,); None: one each.

    Returns:
        Knots (z, z'), increasing in z: the map is linear between them and parallel to the identity
        beyond.
    """
    import numpy as np

    z, y = logit(p), np.asarray(label, dtype=np.float64)
    if method != "isotonic":
        shift, slope = 0.0, 1.0
        if method != "identity":
            shift, slope = _sigmoid(z, y, weight, slope_fixed=method == "offset")
        ends = np.array([-END, END])
        return ends, shift + slope * ends
    return _centered_isotonic(z, y, np.ones(len(y)) if weight is None else weight)


def apply_knots(p: "NDArray[Any]", knots: tuple["Floats", "Floats"]) -> "Floats":
    """Calibrated probabilities of raw scores."""
    import numpy as np

    z, (x, y) = logit(p), knots
    mapped = np.interp(z, x, y)
    mapped = mapped + np.minimum(z - x[0], 0) + np.maximum(z - x[-1], 0)
    out: Floats = 1 / (1 + np.exp(-mapped))
    return out


def level_of(p: "NDArray[Any]", label: "NDArray[Any]", weight: "Floats | None" = None) -> float:
    """The shift of the log-odds that brings the mean score to the share of positives.

    Args:
        p: scores in [0, 1], shape (n,).
        label: 0/1, shape (n,), both classes present.
        weight: rows of the population that each one stands for, shape (n,); None: one each.
    """
    import numpy as np

    y = np.asarray(label, dtype=np.float64)
    return _sigmoid(logit(p), y, weight, slope_fixed=True)[0]


def shift_level(p: "NDArray[Any]", level: float) -> "Floats":
    """Scores with their log-odds shifted."""
    import numpy as np

    out: Floats = 1 / (1 + np.exp(-(logit(p) + level)))
    return out


def _sigmoid(
    z: "Floats", y: "Floats", weight: "Floats | None" = None, *, slope_fixed: bool = False
) -> tuple[float, float]:
    """Intercept and slope of the logistic regression of y on z, by Newton's method.

    Labels are softened to (n₊ + 1) / (n₊ + 2) and 1 / (n₋ + 2), as Platt (1999) does against
    overfitting; a slope that would turn the order around falls back to 1 with a fitted intercept.
    A step that would raise the loss is halved: with extreme scores whole steps go back and forth.
    """
    import numpy as np

    def loss(beta: "Floats") -> float:
        linear = np.clip(beta[0] + beta[1] * z, -35, 35)
        return float(((np.logaddexp(0, linear) - t * linear) * own).sum())

    own = np.ones(len(y)) if weight is None else weight
    positives = (y * own).sum()
    negatives = own.sum() - positives
    t = np.where(y > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    for fixed in (True,) if slope_fixed else (False, True):
        beta = np.array([0.0, 1.0])
        for _ in range(50):
            p = 1 / (1 + np.exp(-np.clip(beta[0] + beta[1] * z, -35, 35)))
            w, off = p * (1 - p) * own, (p - t) * own
            gradient = np.array([off.sum(), (off * z).sum()])
            hessian = np.array([[w.sum(), (w * z).sum()], [(w * z).sum(), (w * z * z).sum()]])
            if fixed:
                step = np.array([gradient[0] / max(hessian[0, 0], 1e-12), 0.0])
            else:
                step = np.linalg.solve(hessian + 1e-9 * np.eye(2), gradient)
            step = np.clip(step, -2, 2)
            before = loss(beta)
            # rounding alone may raise the loss by its last digits
            while loss(beta - step) > before * (1 + 1e-9) and np.abs(step).max() > 1e-10:
                step = step / 2
            beta = beta - step
            if np.abs(step).max() < 1e-10:
                break
        if beta[1] > 0.05:
            break
    return float(beta[0]), float(beta[1])


def _centered_isotonic(z: "Floats", y: "Floats", weight: "Floats") -> tuple["Floats", "Floats"]:
    import numpy as np
    from sklearn.isotonic import IsotonicRegression

    order = np.argsort(z, kind="stable")
    z, y, weight = z[order], y[order], weight[order]
    fitted = IsotonicRegression().fit_transform(z, y, sample_weight=weight)
    starts = np.flatnonzero(np.r_[True, fitted[1:] != fitted[:-1]])
    rows = np.add.reduceat(weight, starts)
    hits = np.add.reduceat(y * weight, starts)
    mass = np.add.reduceat(z * weight, starts)
    blocks: list[list[float]] = []
    for n, k, m in zip(rows, hits, mass, strict=True):
        if blocks and _thin(blocks[-1]):
            blocks[-1] = [blocks[-1][0] + n, blocks[-1][1] + k, blocks[-1][2] + m]
        else:
            blocks.append([float(n), float(k), float(m)])
    while len(blocks) > 1 and _thin(blocks[-1]):
        last = blocks.pop()
        blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    n, k, m = np.array(blocks).T
    return m / n, logit(k / n)


def _thin(block: list[float]) -> bool:
    rows, positives, _ = block
    return rows < BLOCK_ROWS or min(positives, rows - positives) < BLOCK_CLASS


@dataclass(frozen=True)
class Held:
    """Raw scores of rows that a pipeline was not fitted on, in order of time.

    Attributes:
        score: raw probabilities, shape (n,).
        label: 0/1, shape (n,).
        day: snapshot of each row, shape (n,) as datetime64[D].
        weight: rows of the population that each one stands for, shape (n,); None: one each.
    """

    score: "Floats"
    label: "NDArray[np.int64]"
    day: "NDArray[np.datetime64]"
    weight: "Floats | None" = None

    def with_rows(self, other: "Held") -> "Held":
        """These rows and others."""
        import numpy as np

        return Held(
            np.concatenate([self.score, other.score]),
            np.concatenate([self.label, other.label]),
            np.concatenate([self.day, other.day]),
            None
            if self.weight is None or other.weight is None
            else np.concatenate([self.weight, other.weight]),
        )

    def closed_by(self, day: "np.datetime64", horizon_days: int) -> "Held":
        """The rows whose labels are closed on the morning of a day."""
        import numpy as np

        return self._where(self.day + np.timedelta64(horizon_days, "D") <= day)

    def newest(self, days: int) -> "Held":
        """The rows of the newest ``days`` days, and of earlier ones until both classes are there in
        :data:`LEAST_OF_CLASS` rows; empty where they never are.
        """
        import numpy as np

        wanted = self.day.max() - np.timedelta64(days - 1, "D")
        for first in np.unique(self.day)[::-1]:
            rows = self._where(self.day >= min(first, wanted))
            positives = int(rows.label.sum())
            if min(positives, len(rows.label) - positives) >= LEAST_OF_CLASS:
                return rows
        return self._where(self.day != self.day)

    def _where(self, keep: "NDArray[np.bool_]") -> "Held":
        weight = _of(self.weight, keep)
        return Held(self.score[keep], self.label[keep], self.day[keep], weight)


def refitted(held: Held | None, test: Held, method: str) -> "tuple[Floats, Floats] | None":
    """The map of a chosen method on all closed rows; None where no method was chosen."""
    if held is None or method not in METHODS:
        return None
    rows = held.with_rows(test)
    return fit_knots(rows.score, rows.label, method, rows.weight)


def replayed(
    held: Held | None, test: Held, method: str, *, horizon_days: int, level_days: int
) -> "dict[str, Floats]":
    """Scores of the test rows by what could have been known on each morning.

    Args:
        held: what the map was fitted on; None where there was nothing.
        test: the test rows, scored by the pipeline.
        method: that was chosen before the test slice.
        horizon_days: days until a label is closed.
        level_days: days of the newest closed labels that a level is taken from.

    Returns:
        :data:`RAW`, :data:`AGAIN` and :data:`LEVEL` → scores, shape (n,). A stretch before which
        nothing is closed has the raw score.
    """
    import numpy as np

    rows = test if held is None else held.with_rows(test)
    chosen: Method = next((m for m in METHODS if m == method), "identity")
    again, level = test.score.copy(), test.score.copy()
    for days in np.array_split(np.unique(test.day), STRETCHES):
        if not len(days):
            continue
        here = (test.day >= days[0]) & (test.day <= days[-1])
        known = rows.closed_by(days[0], horizon_days)
        if not 0 < known.label.sum() < len(known.label):
            continue
        knots = fit_knots(known.score, known.label, chosen, known.weight)
        again[here] = level[here] = apply_knots(test.score[here], knots)
        newest = known.newest(level_days)
        if len(newest.label):
            shift = level_of(apply_knots(newest.score, knots), newest.label, newest.weight)
            level[here] = shift_level(again[here], shift)
    return {RAW: test.score, AGAIN: again, LEVEL: level}
