"""Pictures of tags: the flow between groups as a map of shares."""

from typing import Any

from usergrowth_dagster.learning.plots import picture
from usergrowth_dagster.tags.flows import LEFT, NEW, Flow


def draw_flow(flow: Flow) -> bytes:
    """A PNG: a row for each group of the first date, shaded by the share that went to each."""

    def draw(axes: Any) -> None:
        _draw(axes, flow)

    height = 1.6 + 0.42 * (len(flow.groups) + 1)
    return picture(draw, f"{flow.table}: {flow.first} → {flow.last}", height)


def _draw(axes: Any, flow: Flow) -> None:
    import numpy as np

    counts = np.array([row[1:] for row in flow.rows], dtype=np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.grid(visible=False)
    names = (*flow.groups, LEFT)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", fontsize=7)
    axes.set_yticks(range(len(flow.groups) + 1), (*flow.groups, NEW), fontsize=7)
    axes.set_xlabel(str(flow.last), fontsize=8)
    axes.set_ylabel(str(flow.first), fontsize=8)
    for row, column in np.argwhere(counts > 0):
        color = "white" if shares[row, column] > 0.55 else "#1a1d21"
        text = f"{int(counts[row, column]):,}"
        axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=color)
