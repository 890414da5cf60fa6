"""Pictures of amounts: what the best ranked come to, and each tenth as predicted and as it was."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.plots import STYLES, finish, lines, picture, thinned

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHOWN = 20  # features


def draw_amounts(
    amount: "NDArray[Any]",
    scores: "Mapping[str, NDArray[np.float64]]",
    bins: Sequence[Mapping[str, float]],
    importance: Mapping[str, float],
    title: str,
) -> dict[str, bytes]:
    """All pictures of one training: ``gain``, ``deciles``, ``importance``.

    Args:
        amount: of the test rows.
        scores: scorer name → predicted amounts of the test rows; the champion first.
        bins: of :func:`metrics.deciles`.
        importance: feature → share of the champion's gain, largest first.
        title: stands above each picture.
    """
    return {
        "gain": _gain(amount, scores, title),
        "deciles": _deciles(bins, title),
        "importance": _importance(importance, title),
    }


def _gain(amount: "NDArray[Any]", scores: "Mapping[str, NDArray[np.float64]]", title: str) -> bytes:
    import numpy as np

    seen = np.arange(len(amount) + 1) / len(amount)

    def draw(axes: Any) -> None:
        drawn = {}
        for name, score in {**scores, "the true order": amount}.items():
            held = np.cumsum(amount[np.argsort(-score, kind="stable")])
            share = np.r_[0, held / held[-1]]
            at = f"{name} ({np.interp(0.4, seen, share):.0%} in the top 40 %)"
            drawn[at] = tuple(thinned(seen, share))
        lines(axes, drawn)  # type: ignore[arg-type]
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=1)
        finish(axes, "share of users, best first", "share of all amounts", "lower right")

    return picture(draw, f"{title}: amounts of the best ranked")


def _deciles(bins: Sequence[Mapping[str, float]], title: str) -> bytes:
    def draw(axes: Any) -> None:
        at = list(range(1, len(bins) + 1))
        axes.bar(at, [one["real"] for one in bins], color="#9ecae1", label="as it was")
        axes.plot(
            at, [one["predicted"] for one in bins], "o--", color=STYLES[1][0], label="predicted"
        )
        axes.set_xticks(at)
        finish(axes, "tenth by prediction, 1 the highest", "mean amount", "upper right")

    return picture(draw, f"{title}: amounts by tenth")


def _importance(importance: Mapping[str, float], title: str) -> bytes:
    top = list(importance.items())[:SHOWN][::-1]

    def draw(axes: Any) -> None:
        axes.barh([name for name, _ in top], [share for _, share in top], color=STYLES[0][0])
        axes.tick_params(axis="y", labelsize=8)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("share of what all splits gain")

    return picture(draw, f"{title}: what the model leans on", height=1.4 + 0.2 * len(top))
