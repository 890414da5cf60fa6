"""Pictures of effects: Qini curves beside chance and controls, and the effect by decile."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.plots import STYLES, finish, lines, picture, thinned
from usergrowth_dagster.learning.uplift.curves import Arms, area, curve
from usergrowth_dagster.learning.uplift.metrics import UpliftBin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def draw_qini(rows: Arms, scores: "Mapping[str, NDArray[np.float64]]", title: str) -> bytes:
    """Qini curves of up to five rankings, in more returns per 1,000 rows; gray: chance."""

    def draw(axes: Any) -> None:
        drawn = {}
        people = float(rows.weight.sum())
        end = 0.0
        for name, score in list(scores.items())[: len(STYLES)]:
            seen, value = curve(rows, score, guarded=True)
            end = float(value[-1]) / people * 1000
            label = f"{name} (Qini {area(rows, score, guarded=True):.3f})"
            drawn[label] = tuple(thinned(seen / people, value / people * 1000))
        lines(axes, drawn)  # type: ignore[arg-type]
        axes.plot([0, 1], [0, end], color="#999999", linewidth=1, label="random")
        finish(
            axes,
            "share of people texted, best ranked first",
            "more returns than without the text, per 1,000",
            "lower right",
        )

    return picture(draw, f"{title}: Qini curves")


def draw_deciles(bins: Sequence[UpliftBin], title: str) -> bytes:
    """Measured effect by decile with its interval, and the predicted one."""

    def draw(axes: Any) -> None:
        known = [b for b in bins if b.uplift is not None]
        at = [b.place for b in known]
        measured = [b.uplift for b in known if b.uplift is not None]
        axes.bar(at, [100 * u.value for u in measured], color="#9ecae1", label="measured")
        reach = [
            [100 * (u.value - u.low) for u in measured],
            [100 * (u.high - u.value) for u in measured],
        ]
        axes.errorbar(
            at,
            [100 * u.value for u in measured],
            yerr=reach,
            fmt="none",
            ecolor="#333333",
            capsize=3,
        )
        predicted = [(b.place, 100 * b.predicted) for b in bins if b.predicted is not None]
        if predicted:
            axes.plot(*zip(*predicted, strict=True), "o--", color=STYLES[1][0], label="predicted")
        axes.axhline(0, color="#999999", linewidth=1)
        axes.set_xticks([b.place for b in bins])
        finish(
            axes, "tenth by predicted effect, 1 the highest", "effect, percentage points", "best"
        )

    return picture(draw, f"{title}: effect by decile")
