"""How a segment stands: its newest snapshot, whether it is stale, and jumps of its size."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from usergrowth_dagster.segments.definition import Named, Segment
from usergrowth_dagster.segments.snapshots import Snapshot, good


@dataclass(frozen=True)
class Standing:
    """How a segment stands.

    Attributes:
        newest: its newest snapshot; None without one.
        stale: why it must not be relied on, a sentence each; none when it is fresh.
        alert: the jump of its newest snapshot, in a sentence; empty without one.
    """

    newest: Snapshot | None
    stale: tuple[str, ...]
    alert: str


def standing_of(
    named: Named,
    records: Sequence[Snapshot],
    today: date,
    jump: float,
    *,
    due: date | None = None,
) -> Standing:
    """How a segment stands today.

    Args:
        named: the segment.
        records: its records, oldest first.
        today: the execution date.
        jump: share of the size from which a change is a jump.
        due: the date that the snapshot of a daily segment must be of; default: today.
    """
    snapshots = good(records, until=today)
    newest = newest_of(named.segment, records, today)
    reasons = []
    segment = named.segment
    if segment.valid_until is not None and today > segment.valid_until:
        reasons.append(
            f"it was valid until {segment.valid_until}, and needs a later valid_until to be used"
        )
    known = [one for one in records if one.ds <= today]
    failed = max(known, key=lambda one: (one.ds, one.made_at), default=None)
    if failed is not None and not failed.is_good:
        reasons.append(f"the refresh of {failed.ds} failed: {failed.error}")
    if newest is None:
        reasons.append("it has no snapshot yet")
    elif newest.version != segment.version:
        reasons.append(f"its definition has changed since snapshot {newest.snapshot}")
    elif segment.refresh == "daily" and newest.ds < (due or today):
        reasons.append(f"it is refreshed daily, and its newest snapshot is of {newest.ds}")
    before = snapshots[: snapshots.index(newest)] if newest is not None else []
    alert = jump_sentence(newest, before, jump) if newest is not None else ""
    return Standing(newest, tuple(reasons), alert)


def newest_of(segment: Segment, records: Sequence[Snapshot], day: date) -> Snapshot | None:
    """The newest snapshot up to a date; None without one.

    Of several of one date those of the present definition come first: where a definition was
    changed and changed back, the refresh finds the first snapshot standing and makes no other.
    """
    snapshots = good(records, until=day)
    return max(
        snapshots,
        key=lambda one: (one.ds, one.version == segment.version, one.made_at),
        default=None,
    )


def jump_sentence(made: Snapshot, before: Sequence[Snapshot], jump: float) -> str:
    """The jump from the snapshot before to one, in a sentence; empty without one.

    Args:
        made: the snapshot.
        before: earlier snapshots with people, oldest first.
        jump: share of the size from which a change is a jump.
    """
    if not before or made.sizes is None or before[-1].sizes is None:
        return ""
    old, new = before[-1].sizes.matches, made.sizes.matches
    if abs(new - old) <= jump * old:
        return ""
    change = f"{(new - old) / old:+.0%}" if old else "from nobody"
    return (
        f"segment {made.segment}: the size jumped from {old:,} to {new:,} people ({change}) since "
        f"snapshot {before[-1].snapshot}"
    )
