"""The page of the profiles of all segments."""

from usergrowth_dagster.cli.cells import Count, Share
from usergrowth_dagster.cli.common import Page
from usergrowth_dagster.profiles.of_segments import SegmentProfiles
from usergrowth_dagster.profiles.segment_retention import WEEKS


def show_segment_profiles(made: SegmentProfiles, page: Page) -> None:
    """Print the segments with what is telling, their overlap, and who came back."""
    _show_profiles(made, page)
    _show_overlap_and_retention(made, page)
    for name in made.missing:
        page.say(f"segment {name} is not compared: it has no snapshot up to {made.day}")
    if made.not_overlapped:
        left_out = ", ".join(made.not_overlapped)
        page.say(f"Overlap and retention leave out the smallest: {left_out}.")
    state = "stood already" if made.unchanged else "were written"
    page.say(f"{made.rows:,} rows of the table segment_profiles {state}.")


def _show_profiles(made: SegmentProfiles, page: Page) -> None:
    page.table(
        f"segments on {made.day}",
        ("segment", "snapshot", "people", "not known", "what is telling"),
        [
            (p.segment, p.snapshot, Count(p.group), Count(p.unknown), p.sentence)
            for p in made.profiles
        ],
    )
    page.table(
        "most telling values",
        ("segment", "tag", "value", "people", "share", "share of base", "TGI", "low", "high"),
        [
            (
                *(p.segment, key, v.value, Count(v.group), Share(v.group_share)),
                *(Share(v.base_share), round(v.tgi, 1), round(v.low, 1), round(v.high, 1)),
            )
            for p in made.profiles
            for key, v in p.telling
        ],
    )


def _show_overlap_and_retention(made: SegmentProfiles, page: Page) -> None:
    if made.overlap is not None:
        page.table(
            "people in exactly these segments",
            ("segments", "people"),
            [(" + ".join(one.groups), Count(one.people)) for one in made.overlap.intersections],
        )
    page.table(
        "retention",
        ("segment", "week", "people", *(f"week {n}" for n in range(WEEKS))),
        [
            (name, c.week, Count(c.people), *(None if s is None else Share(s) for s in c.shares))
            for name, cohorts in made.retention.items()
            for c in cohorts
        ],
    )
