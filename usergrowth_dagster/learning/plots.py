"""Pictures of how good a model is, as PNG bytes.

Explicit figures on matplotlib's Agg canvas, never pyplot: no global state but the
fonts, safe in any thread.
Colors are from the Okabe-Ito set, told apart by line style too.
"""

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.fonts import use_fonts
from usergrowth_dagster.learning.metrics import curves, reliability

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from usergrowth_dagster.learning.drift import Drift

    Scores = Mapping[str, NDArray[np.float64]]
    Weight = NDArray[np.float64] | None

STYLES = (
    ("#0072B2", "-"),
    ("#D55E00", "--"),
    ("#009E73", "-."),
    ("#CC79A7", ":"),
    ("#56B4E9", (0, (5, 1))),
)
_SIZE, _DPI = (5.6, 4.2), 100
_MAX_POINTS = 400


def draw_all(
    label: "NDArray[Any]",
    scores: "Scores",
    importance: Mapping[str, float],
    *,
    weight: "Weight" = None,
    ranking_only: tuple[str, ...] = (),
    title: str,
) -> dict[str, bytes]:
    """All pictures of one training: ``roc``, ``precision_recall``, ``calibration``, ``lift``,
    ``importance``.

    Args:
        label: 0/1 of the test rows.
        scores: scorer name → scores of the test rows; the champion first, baselines after.
        importance: feature → weight of the champion, largest first.
        weight: rows that each test row stands for, shape (n,); None: one each.
        ranking_only: scorers without probabilities; they have no calibration curve.
        title: stands above each picture.
    """
    probable = {name: score for name, score in scores.items() if name not in ranking_only}
    return {
        "roc": _roc(label, scores, weight, title),
        "precision_recall": _precision_recall(label, scores, weight, title),
        "calibration": _calibration(label, probable, weight, title),
        "lift": _gains(label, scores, weight, title),
        "importance": _importance(importance, title),
    }


def picture(draw: Callable[[Any], None], title: str, height: float = _SIZE[1]) -> bytes:
    """A PNG of one pair of axes in the house's style, ``height`` inches high."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    use_fonts()
    figure = Figure(figsize=(_SIZE[0], height), dpi=_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    draw(axes)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(64)
    out = io.BytesIO()
    image.save(out, format="png", optimize=True)
    return out.getvalue()


def thinned(*arrays: "NDArray[Any]") -> list["NDArray[Any]"]:
    """At most 400 points of a curve: more than the picture's pixels can show."""
    import numpy as np

    count = len(arrays[0])
    if count <= _MAX_POINTS:
        return list(arrays)
    at = np.unique(np.linspace(0, count - 1, _MAX_POINTS).round().astype(int))
    return [array[at] for array in arrays]


def lines(axes: Any, drawn: Mapping[str, tuple[Any, Any]], marker: str = "") -> None:
    """Lines by the name that the legend shows, told apart by color and style."""
    for (name, (x, y)), (color, style) in zip(drawn.items(), STYLES, strict=False):
        axes.plot(x, y, color=color, linestyle=style, linewidth=1.8, marker=marker, label=name)


def finish(axes: Any, x: str, y: str, place: str) -> None:
    """Names of the axes, and the legend at its place."""
    axes.set(xlabel=x, ylabel=y)
    axes.legend(loc=place, fontsize=8, frameon=False)


def _roc(label: "NDArray[Any]", scores: "Scores", weight: "Weight", title: str) -> bytes:
    import numpy as np

    def draw(axes: Any) -> None:
        drawn = {}
        for name, score in scores.items():
            c = curves(label, score, weight)
            x, y = np.r_[0, c["fall_out"]], np.r_[0, c["recall"]]
            area = float(np.trapezoid(y, x))
            drawn[f"{name} (AUC {area:.3f})"] = tuple(thinned(x, y))
        lines(axes, drawn)  # type: ignore[arg-type]
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=1)
        finish(
            axes, "share of negatives above the score", "share of positives found", "lower right"
        )

    return picture(draw, f"{title}: ROC")


def _precision_recall(
    label: "NDArray[Any]", scores: "Scores", weight: "Weight", title: str
) -> bytes:
    import numpy as np

    def draw(axes: Any) -> None:
        drawn = {}
        for name, score in scores.items():
            c = curves(label, score, weight)
            drawn[name] = tuple(thinned(c["recall"], c["precision"]))
        lines(axes, drawn)  # type: ignore[arg-type]
        base = float(np.average(label, weights=weight))
        axes.axhline(base, color="#999999", linewidth=1)
        axes.annotate(f"everyone: {base:.3f}", (1, base), ha="right", va="bottom", fontsize=8)
        axes.set_ylim(0, 1.02)
        finish(axes, "share of positives found (recall)", "share that is positive", "upper right")

    return picture(draw, f"{title}: precision and recall")


def _calibration(label: "NDArray[Any]", scores: "Scores", weight: "Weight", title: str) -> bytes:
    def draw(axes: Any) -> None:
        drawn = {}
        top = 0.0
        for name, score in scores.items():
            r = reliability(label, score, weight)
            drawn[name] = (r["mean_score"], r["share"])
            top = max(top, float(r["mean_score"].max()), float(r["share"].max()))
        top = min(1.0, top * 1.05)
        axes.plot([0, top], [0, top], color="#999999", linewidth=1)
        lines(axes, drawn, marker="o")
        finish(axes, "mean score of the bin", "share that is positive", "upper left")

    return picture(draw, f"{title}: calibration (10 bins of equal size)")


def _gains(label: "NDArray[Any]", scores: "Scores", weight: "Weight", title: str) -> bytes:
    import numpy as np

    def draw(axes: Any) -> None:
        drawn = {}
        for name, score in scores.items():
            c = curves(label, score, weight)
            x, y = np.r_[0, c["seen"]], np.r_[0, c["recall"]]
            drawn[f"{name} ({np.interp(0.4, x, y):.0%} in the top 40 %)"] = tuple(thinned(x, y))
        lines(axes, drawn)  # type: ignore[arg-type]
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=1)
        for share in (0.1, 0.2, 0.4):
            axes.axvline(share, color="#bbbbbb", linewidth=0.8)
        finish(
            axes,
            "share of users texted, best first",
            "share of positives among them",
            "lower right",
        )

    return picture(draw, f"{title}: capture and lift")


def _importance(importance: Mapping[str, float], title: str) -> bytes:
    top = list(importance.items())[:20][::-1]

    def draw(axes: Any) -> None:
        axes.barh([name for name, _ in top], [weight for _, weight in top], color=STYLES[0][0])
        axes.tick_params(axis="y", labelsize=8)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("standard deviation of the feature's part of the logit")

    return picture(draw, f"{title}: what the model leans on", height=1.4 + 0.2 * len(top))


def draw_drift(drift: "Drift", title: str, notice: float, warning: float) -> bytes:
    """The largest population stability indices as bars, with the lines of notice and warning.

    The axis ends at four times the warning at most, so that the lines can be told apart; a longer
    bar is cut there, and every bar has its number.
    """
    top = [*([drift.score] if drift.score else []), *drift.features[:20]][::-1]
    colors = {"same": "#999999", "shifted": "#E69F00", "drifted": "#D55E00"}
    end = min(4 * warning, max(1.3 * warning, *(s.psi * 1.15 for s in top)))

    def draw(axes: Any) -> None:
        shown = [min(s.psi, end * 0.88) for s in top]
        axes.barh([s.feature for s in top], shown, color=[colors[s.level] for s in top])
        for place, (length, shift) in enumerate(zip(shown, top, strict=True)):
            axes.text(length + end * 0.01, place, f"{shift.psi:.2f}", va="center", fontsize=7)
        for bound, style in ((notice, "--"), (warning, "-")):
            axes.axvline(bound, color="#333333", linestyle=style, linewidth=1)
        axes.set_xlim(0, end)
        axes.set_xticks([0, notice, warning, end], labels=["0", f"{notice:g}", f"{warning:g}", ""])
        axes.tick_params(axis="y", labelsize=8)
        axes.grid(visible=False)
        axes.set_xlabel("population stability index", fontsize=9)

    return picture(draw, f"{title}: drift", height=1.4 + 0.2 * len(top))
