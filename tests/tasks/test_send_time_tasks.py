"""Send-time optimization through the whole chain: profiles from the landed days, times in the ledger."""

import contextlib
import sqlite3
from collections import Counter
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

from chain_world import World, approve, cli, copy_home, day, rows, succeeded, write_campaign
from chain_world import outbox as sent

from usergrowth_dagster.messaging.schedules.occurrences import occurrences_of
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings


def messages(home: Path) -> list[Any]:
    with contextlib.closing(sqlite3.connect(home / "control.db")) as connection:
        return connection.execute(
            "select m.user_id, m.state, m.not_before from message m "
            "join occurrence o on o.id = m.occurrence_id where o.task_id = 'smart'"
        ).fetchall()


def test_planned_at_the_hours_of_the_landed_days(world: World, tmp_path: Path) -> None:
    """Guards against hours of another user, of the wrong days, or of no effect on what is sent."""
    home = copy_home(world.decided, tmp_path / "home")
    people = (home / "landing/population/care/population.csv").read_text("utf-8").splitlines()
    folder = home / "landing" / "population" / "smart"
    folder.mkdir(parents=True)
    (folder / "population.csv").write_text("\n".join(people[:201]) + "\n", encoding="utf-8")
    path = write_campaign(
        home,
        "smart",
        selection="{top_n: 60}",
        schedule=f"{{name: smart, smart_send: {{start_date: {day(0)}, end_date: {day(-2)}}}}}",
        contact="{cap_messages: 9}",
    )
    succeeded(cli(home, "apply", "-f", str(path)))
    approve(home, "smart")
    before = len(sent(home))
    succeeded(cli(home, "run", "--date", str(day(0)), USERGROWTH_GATEWAY_RATE="0.003"))
    project = Project(load_settings(home))
    zone = project.settings.zone
    (made,) = occurrences_of(project.store, "smart")
    project.store.close()
    assert made.due == datetime.combine(day(0), time(8), zone)
    assert made.send_by == datetime.combine(day(-2), time(21, 59), zone)

    liked: dict[str, Counter[int]] = {}
    for user, hours in rows(home, "user_day", f"ds < '{day(0)}'", "user_id, hours"):
        for key, number in (hours or {}).items():
            liked.setdefault(user, Counter())[int(key[2:])] += number
    planned = {
        user: datetime.fromisoformat(moment).replace(tzinfo=UTC).astimezone(zone)
        for user, _, moment in messages(home)
    }
    assert len(planned) == 60
    begun = datetime.combine(day(0), time(10), zone)  # the business clock of a pinned date
    by_hour: Counter[tuple[date, int]] = Counter()
    at_best_hour = 0
    for user, moment in planned.items():
        assert begun <= moment < made.send_by
        assert time(8) <= moment.time() < time(21, 59)
        by_hour[moment.date(), moment.hour] += 1
        counts = liked.get(user, Counter())
        first_day = range(10, 22) if moment.date() == day(0) else range(8, 22)
        at_best_hour += counts[moment.hour] == max(counts[hour] for hour in first_day)
    assert max(by_hour.values()) <= 10  # 0.003 a second
    assert at_best_hour >= 30  # the others found their hour full
    # only those whose time has come went out
    states = Counter(state for _, state, _ in messages(home))
    assert states["accepted"] == len(sent(home)) - before
    assert states["accepted"] == sum(moment <= begun for moment in planned.values())
    assert states["planned"] == 60 - states["accepted"]
