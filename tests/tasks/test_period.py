"""How a period is cut where the control group of all campaigns was drawn afresh."""

from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

from usergrowth_dagster.audience.holdout import Holdout
from usergrowth_dagster.measure import period
from usergrowth_dagster.pipeline.choice import global_holdout
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings


def test_a_changed_rotation_leaves_every_date_in_one_part(tmp_path: Path) -> None:
    """A period with a change of the setting that no date can be asked for, or that has no end."""
    first, change = date(2026, 11, 1), date(2026, 11, 11)
    settings = load_settings(tmp_path / "home", global_holdout_rotate_days=91)
    settings.home.mkdir()
    home = Project(settings)

    def draws(since: date, days: int) -> dict[date, Holdout]:
        every = [since + timedelta(days=n) for n in range(days)]
        now = {day: global_holdout(settings, day) for day in every}
        old = {"epoch": settings.global_holdout_epoch}  # kept until the change
        return {day: d.model_copy(update=old) if day < change else d for day, d in now.items()}

    for since, days in ((first, 20), (date(2026, 9, 1), 80), (date(2026, 8, 1), 200)):
        drawn, last = draws(since, days), since + timedelta(days=days - 1)
        parts = period._parts(home, drawn, since, last)
        assert parts[0].first == since and parts[-1].last == last
        for part, after in pairwise(parts):
            assert part.first <= part.last == after.first - timedelta(days=1)
        for part in parts:
            inside = {day: d for day, d in drawn.items() if part.first <= day <= part.last}
            assert len({d.epoch for d in inside.values()}) == 1
            (alone,) = period._parts(home, inside, part.first, part.last)
            assert (alone.first, alone.last) == (part.first, part.last)
            assert part.drawn is None or part.drawn >= change or part.first == since
