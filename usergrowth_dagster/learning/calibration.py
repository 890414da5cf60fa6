"""Probabilities that mean what they say: a monotone map from a model's raw score.

The map is fitted on rows the model was not fitted on: a later slice of time, or forward folds. It
works on the logit scale, z = log(p / (1 − p)):

* ``identity``: z' = z; the model is calibrated as it is.
* ``isotonic``: pool-adjacent-violators on z (Zadrozny & Elkan 2002), blocks merged until each holds
  a fair number of rows of both classes, then **centered** (Oron & Flournoy 2017): linear between
  block centers instead of a staircase, so that rows keep their order and few scores tie. Beyond the
  outermost centers the map goes on parallel to the identity.
* ``sigmoid``: z' = a + b z with b > 0 (Platt 1999, on the logit).

:func:`choose_method` takes the simplest that is not clearly worse.
"""

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Method = Literal["identity", "sigmoid", "isotonic"]
ISOTONIC_MIN = 1000  # rows of each class from which the isotonic map is trusted
BLOCK_ROWS, BLOCK_CLASS = 200, 20  # least rows, and least rows of each class, of one block
CHI2_99 = 9.21  # of two degrees of freedom
CLIP = 1e-6
END = 14.0  # beyond the logit of CLIP


def logit(p: "NDArray[Any]") -> "Floats":
    """log(p / (1 − p)), p clipped to [1e-6, 1 − 1e-6]."""
    import numpy as np

    clipped = np.clip(np.asarray(p, dtype=np.float64), CLIP, 1 - CLIP)
    out: Floats = np.log(clipped) - np.log1p(-clipped)
    return out


def choose_method(p: "NDArray[Any]", label: "NDArray[Any]", *, same_model: bool = True) -> Method:
    """The simplest map that is not clearly worse on held-out rows.

    A model fitted by log-loss is often calibrated already, and a map then only adds noise.

    * The sigmoid has just two parameters, so on rows scored by the very model that is mapped a
      likelihood-ratio test against the identity decides (Wilks 1938), at 1 % since the rows of one
      user are not independent. On rows scored by stand-ins (the models of forward folds, fitted on
      fewer rows, whose shift is partly their own) it has to win as the isotonic map has to.
    * The isotonic map is a candidate from 1,000 rows of each class on. Each candidate is fitted on
      four fifths of the rows and scored by log-loss on the rest, five times over runs of
      consecutive rows (rows come in order of time, so a run is a stretch of time). It wins when its
      gain over the simpler one is more than two standard errors.

    Args:
        p: raw scores, shape (n,), in order of time.
        label: 0/1, shape (n,).
        same_model: whether the scores are of the model that the map is for.
    """
    import numpy as np

    candidates: list[Method] = ["identity", "sigmoid"]
    if min(int(label.sum()), len(label) - int(label.sum())) >= ISOTONIC_MIN:
        candidates.append("isotonic")
    fold = np.arange(len(label)) * 5 // len(label)
    loss = {method: np.zeros(len(label)) for method in candidates}
    for held in range(5):
        out = fold == held
        if len(np.unique(label[~out])) < 2:
            return "identity"
        for method in candidates:
            knots = fit_knots(p[~out], label[~out], method)
            loss[method][out] = _losses(apply_knots(p[out], knots), label[out])
    best = candidates[0]
    for method in candidates[1:]:
        gain = loss[best] - loss[method]
        wins = bool(gain.mean() > 2 * gain.std() / np.sqrt(len(gain)))
        if method == "sigmoid" and same_model:
            mapped = apply_knots(p, fit_knots(p, label, "sigmoid"))
            wins = 2 * float((_losses(p, label) - _losses(mapped, label)).sum()) > CHI2_99
        best = method if wins else best
    return best


def _losses(p: "Floats", label: "NDArray[Any]") -> "Floats":
    """The log-loss of each row."""
    import numpy as np

    q = np.clip(p, CLIP, 1 - CLIP)
    out: Floats = -np.log(np.where(label > 0, q, 1 - q))
    return out


def fit_knots(
    p: "NDArray[Any]", label: "NDArray[Any]", method: Method
) -> tuple["Floats", "Floats"]:
    """Fit the map.

    Args:
        p: raw scores in [0, 1], shape (n,).
        label: 0/1, shape (n,), both classes present.
        method: see the module.

    Returns:
        Knots (z, z'), increasing in z: the map is linear between them and parallel to the identity
        beyond.
    """
    import numpy as np

    z, y = logit(p), np.asarray(label, dtype=np.float64)
    if method != "isotonic":
        shift, slope = _sigmoid(z, y) if method == "sigmoid" else (0.0, 1.0)
        ends = np.array([-END, END])
        return ends, shift + slope * ends
    return _centered_isotonic(z, y)


def apply_knots(p: "NDArray[Any]", knots: tuple["Floats", "Floats"]) -> "Floats":
    """Calibrated probabilities of raw scores."""
    import numpy as np

    z, (x, y) = logit(p), knots
    mapped = np.interp(z, x, y)
    mapped = mapped + np.minimum(z - x[0], 0) + np.maximum(z - x[-1], 0)
    out: Floats = 1 / (1 + np.exp(-mapped))
    return out


def _sigmoid(z: "Floats", y: "Floats") -> tuple[float, float]:
    """Intercept and slope of the logistic regression of y on z, by Newton's method.

    Labels are softened to (n₊ + 1) / (n₊ + 2) and 1 / (n₋ + 2), as Platt (1999) does against
    overfitting; a slope that would turn the order around falls back to 1 with a fitted intercept.
    """
    import numpy as np

    positives = y.sum()
    negatives = len(y) - positives
    t = np.where(y > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    for slope_fixed in (False, True):
        beta = np.array([0.0, 1.0])
        for _ in range(50):
            p = 1 / (1 + np.exp(-np.clip(beta[0] + beta[1] * z, -35, 35)))
            w = p * (1 - p)
            gradient = np.array([(p - t).sum(), ((p - t) * z).sum()])
            hessian = np.array([[w.sum(), (w * z).sum()], [(w * z).sum(), (w * z * z).sum()]])
            if slope_fixed:
                step = np.array([gradient[0] / max(hessian[0, 0], 1e-12), 0.0])
            else:
                step = np.linalg.solve(hessian + 1e-9 * np.eye(2), gradient)
            beta = beta - np.clip(step, -2, 2)
            if np.abs(step).max() < 1e-10:
                break
        if beta[1] > 0.05:
            break
    return float(beta[0]), float(beta[1])


def _centered_isotonic(z: "Floats", y: "Floats") -> tuple["Floats", "Floats"]:
    import numpy as np
    from sklearn.isotonic import IsotonicRegression

    order = np.argsort(z, kind="stable")
    z, y = z[order], y[order]
    fitted = IsotonicRegression().fit_transform(z, y)
    starts = np.flatnonzero(np.r_[True, fitted[1:] != fitted[:-1]])
    rows = np.diff(np.r_[starts, len(y)])
    hits = np.add.reduceat(y, starts)
    mass = np.add.reduceat(z, starts)
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
