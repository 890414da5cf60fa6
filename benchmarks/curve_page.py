"""The section of docs/benchmarks.md on how stages grow, and what that implies."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

Point = Mapping[str, Any]
MEMORY, TIME = 1.3, 11.0
"""Most that a stage's memory and seconds may grow by where users and events grow tenfold."""
BEYOND = (10_000_000, 1_000_000_000)
"""Users and events that are extrapolated to."""
DAILY = ("features", "score", "decide", "output", "plan", "effects", "report")
PICTURE = "benchmarks-curve.png"


def section(part: Mapping[str, Any]) -> str:
    """Markdown of the whole section, of a record with ``machine``, ``note`` and ``points``."""
    points: Sequence[Point] = part["points"]
    return "\n\n".join(
        (
            "## Events, seconds, memory, bytes",
            f"{part['machine']}; {part['note']}",
            "Every stage runs in a process of its own. Memory is its peak resident set, with the "
            "interpreter and its libraries (some 200 MB); bytes written are those of all files, "
            "spilled ones included. A size marked as a copy has the people of a smaller world, "
            "several times over.",
            f"![Seconds and memory of every stage by events]({PICTURE})",
            _table(points),
            "### Ten times the users and events",
            f"Memory may grow to {MEMORY:g}×, seconds to {TIME:g}×. The engine may use all of "
            "`memory_limit`: where the larger world fills it and the smaller one does not, a ratio "
            "says no more than how the limit was chosen. So it is small here.",
            _ratios(points),
            "### Ten million users and a billion events",
            _beyond(points),
        )
    )


def _table(points: Sequence[Point]) -> str:
    lines = [
        f"| {p['stage']} | {p['users']:,}{_mark(p)} | {p['events']:,} | {p['rows']:,} "
        f"| {p['limit']} | {p['seconds']:,.1f} | {_cpu(p)} | {p['memory']:,.0f} "
        f"| {p['written']:,.0f} |"
        for p in sorted(points, key=lambda p: (_stages(points).index(p["stage"]), p["users"]))
    ]
    head = "| stage | users | events | rows made | limit | s | s CPU | peak MB | MB written |"
    return "\n".join([head, "|---" * 9 + "|", *lines])


def _mark(point: Point) -> str:
    return " (copy)" if point.get("copied") else ""


def _cpu(point: Point) -> str:
    return "–" if point["cpu"] is None else f"{point['cpu']:,.1f}"


def _times(a: Point, b: Point) -> tuple[float, float]:
    """What two points took: CPU seconds where both have them, which other programs change less."""
    if a["cpu"] is None or b["cpu"] is None:
        return a["seconds"], b["seconds"]
    return a["cpu"], b["cpu"]


def _stages(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(p["stage"] for p in points))


def _steps(points: Sequence[Point]) -> list[tuple[Point, Point]]:
    """Points of one stage and limit that lie about a factor of ten apart."""
    steps = []
    for stage in _stages(points):
        for limit in dict.fromkeys(p["limit"] for p in points):
            mine = [p for p in points if (p["stage"], p["limit"]) == (stage, limit)]
            mine.sort(key=lambda p: int(p["users"]))
            steps += [(a, b) for a, b in pairwise(mine) if 9 < b["users"] / a["users"] < 11]
    return steps


def _ratios(points: Sequence[Point]) -> str:
    lines = []
    for a, b in _steps(points):
        before, after = _times(a, b)
        memory, time = b["memory"] / a["memory"], after / before
        met = memory <= MEMORY and time <= TIME
        lines.append(
            f"| {a['stage']} | {a['users']:,} → {b['users']:,} | {a['limit']} | {memory:.2f}× "
            f"| {b['memory'] - a['memory']:+,.0f} MB | {time:.1f}× "
            f"| {'met' if met else '**not met**'} |"
        )
    head = "| stage | users | limit | memory | | seconds | |"
    return "\n".join([head, "|---" * 7 + "|", *lines])


def _beyond(points: Sequence[Point]) -> str:
    """What the last step of each stage implies for a world that was not measured."""
    users, events = BEYOND
    last: dict[str, tuple[Point, Point]] = {}
    for a, b in _steps(points):
        last[a["stage"]] = (a, b)
    lines, taken = [], {}
    for stage, (a, b) in last.items():
        before, after = _times(a, b)
        power = log(after / before) / log(b["users"] / a["users"])
        power = min(max(power, 1.0), 1.3)  # a start-up that is most of a small world's time ends
        hours = after * (users / b["users"]) ** power / 3600
        taken[stage] = hours
        lines.append(f"| {stage} | {power:.2f} | {hours:,.1f} |")
    table = "\n".join(["| stage | power of its growth | hours |", "|---" * 3 + "|", *lines])
    day = sum(hours for stage, hours in taken.items() if stage in DAILY)
    return (
        f"**Extrapolated, not measured**, for {users:,} users and {events:,} events: each stage "
        "goes on growing as it did in its last tenfold step, and not less than in proportion. "
        f"What has no step of its own is left out.\n\n{table}\n\n"
        f"The stages of a day ({', '.join(DAILY)}) would take {day:,.1f} hours here, the others "
        "once or once a week. Memory stays bounded by the setting `memory_limit` and what a "
        "process holds beside it: a stage that passes 1.3 times its smaller self fills the limit, "
        "and the smaller one does not. Effects and reports are the exception: they hold arrays of "
        "those who could be texted, some hundred bytes a person. It is time and disk that end a "
        "machine: joins and sorts of all users spill several times what they read. One machine is "
        "right while the stages of a day end in a night. Beyond, the SQL models run on an engine "
        "of several machines, and the days of a range on several workers."
    )


def draw(points: Sequence[Point], path: Path) -> None:
    """Draw CPU seconds and memory of every stage by events."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    for place, stage in enumerate(_stages(points)):
        mine = sorted((p for p in points if p["stage"] == stage), key=lambda p: int(p["users"]))
        x = [p["events"] for p in mine]
        style = {"marker": "o", "linestyle": ("-", "--", ":")[place % 3], "label": stage}
        left.plot(x, [p["seconds"] if p["cpu"] is None else p["cpu"] for p in mine], **style)
        right.plot(x, [p["memory"] for p in mine], **style)
    left.set(xscale="log", yscale="log", xlabel="events", ylabel="seconds")
    right.set(xscale="log", ylim=(0, None), xlabel="events", ylabel="peak memory, MB")
    right.legend(fontsize=7, ncols=2)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
