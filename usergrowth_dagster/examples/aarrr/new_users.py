"""What The Complete Journey cannot answer: simulated new users in a home of their own.

That data set has neither days of registration nor invitations. Here both are known, and so is the
chance of each user, see :mod:`usergrowth_dagster.examples.worlds.newcomers`.
"""

from datetime import date, timedelta
from pathlib import Path

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.examples.aarrr.campaigns import campaign_text
from usergrowth_dagster.examples.aarrr.table import Line
from usergrowth_dagster.examples.aarrr.trained import trained_line
from usergrowth_dagster.examples.datasets import Example
from usergrowth_dagster.examples.demo import apply_campaigns, decide, ingest
from usergrowth_dagster.examples.worlds._landing import put
from usergrowth_dagster.examples.worlds.newcomers import (
    OBSERVED_DAYS,
    Newcomers,
    cohort,
    write_newcomers,
)
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.project import Project
from usergrowth_dagster.runs.training import train_models

FIRST = date(2024, 1, 4)  # a Thursday: who registers then is decided on a Monday, as snapshots are
DAY = date(2024, 5, 13)
NEWEST = DAY - timedelta(days=OBSERVED_DAYS + 1)
"""The day of registration that the campaign of the day is about."""
A_WEEK = 400
"""Users who register each Thursday."""

VIP, SHARE = "welcome-buyers", "inviters"


def new_user_lines(home: Path, a_week: int = A_WEEK) -> list[Line]:
    """Run the chain on simulated new users, and give the lines of its two questions.

    Args:
        home: folder of a home for them; a second run finds everything up to date.
        a_week: users who register each week.

    Returns:
        The lines of new buyers and of sharing.

    Raises:
        UserError: the folder holds another home, or a step failed.
    """
    chosen = Example("new users", DAY, FIRST, _SETTINGS, campaign_texts(a_week))
    project = Project(make_home(home, chosen.settings))
    world = world_of(a_week)
    write_newcomers(world, project.landing)
    _write_population(project.landing, world)
    ingest(chosen)
    apply_campaigns(project, chosen)
    train_models(project.settings, DAY)
    decide(DAY)
    data = f"{world.users:,} simulated new users"
    return [trained_line(project, name, data) for name in (VIP, SHARE)]


def world_of(a_week: int) -> Newcomers:
    """The simulated users, so many a week."""
    return Newcomers(a_week, (DAY - FIRST).days, FIRST, every=7)


_SETTINGS = {
    "today": DAY.isoformat(),
    "start_date": FIRST.isoformat(),
    "fictional_numbers": True,
}


def campaign_texts(a_week: int) -> dict[str, str]:
    """The campaign files of the two questions, by name."""
    days = (DAY - FIRST).days
    window = f"{{window_days: {days}}}"
    vip = f"{{kind: vip, behaviors: [buy], observed_days: {OBSERVED_DAYS}}}"
    share = "{kind: share, behaviors: [share], days: 7, active_days: 7}"
    chosen = f"{{top_n: {a_week // 4}}}"
    return {
        f"{VIP}.yaml": campaign_text(VIP, vip, window, chosen, DAY),
        f"{SHARE}.yaml": campaign_text(SHARE, share, window, chosen),
    }


def _write_population(landing: Storage, world: Newcomers) -> None:
    """Upload the users of the newest two cohorts, of which the campaign is about the last."""
    days = (NEWEST - timedelta(days=7), NEWEST)
    users = [user for day in days for user in cohort(world, day)]
    # Country code 999 is unassigned, so that no number can be real.
    lines = [f"{user},gift,+999{number:010d},{user}" for number, user in enumerate(users)]
    text = "\n".join(["user_id,item_id,phone,name", *lines, ""])
    put(landing, f"population/{VIP}/population.csv", text.encode())
