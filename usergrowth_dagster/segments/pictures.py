"""The history of sizes as a picture."""

from collections.abc import Mapping, Sequence
from datetime import date

from usergrowth_dagster.learning.plots import picture


def draw_sizes(sizes: Mapping[str, Sequence[tuple[date, int]]]) -> bytes:
    """A PNG: a line of people over execution dates for each segment.

    Args:
        sizes: by segment, the date and the people of each snapshot, oldest first.
    """

    def draw(axes: "object") -> None:
        _draw(axes, sizes)

    return picture(draw, "people by execution date", 3.2)


def _draw(axes: "object", sizes: Mapping[str, Sequence[tuple[date, int]]]) -> None:
    import numpy as np
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    for name, points in sizes.items():
        days = np.array([day for day, _ in points], dtype="datetime64[D]")
        axes.plot(days, [people for _, people in points], marker="o", markersize=3, label=name)
    axes.set_ylim(bottom=0)
    axes.tick_params(axis="x", rotation=30, labelsize=7)
    if sizes:
        axes.legend(fontsize=7)
