"""A million people and thirty million events, unattended: landed, trained, scored and decided."""

from collections.abc import Iterator
from pathlib import Path

from measured import Row, Size
from rows.vendor_job import by_stage, whole_job

WORLDS: dict[Size, tuple[int, int]] = {
    "tiny": (200, 75),
    "normal": (100_000, 90),
    "full": (1_000_000, 90),
}
"""People and days; a person has about thirty events in ninety days."""


def measure(size: Size, work: Path) -> Iterator[Row]:
    """Two rows: minutes, and the memory of the process that needs most."""
    users, days = WORLDS[size]
    used = whole_job(work / "home", users, days)
    what = f"{users:,} people, {days} days: landed, trained, scored and decided"
    minutes = sum(one.wall for one in used.values()) / 60
    yield Row(what, "–", minutes, None, "≤ 60 min", 60, "amount", "min", note=by_stage(used))
    peak = max(one.peak for one in used.values())
    yield Row(f"peak memory of {what}", "–", peak, None, "≤ 8,000 MB", 8_000, "amount", "MB")
