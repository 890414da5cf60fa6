"""A repeating schedule that decides its audience anew, through the whole chain."""

import contextlib
import sqlite3
from datetime import timedelta
from pathlib import Path

from chain_world import (
    World,
    approve,
    cli,
    copy_home,
    day,
    ledger,
    output,
    rows,
    succeeded,
    write_campaign,
    write_people,
)

from usergrowth_dagster.control.tasks import tasks_for
from usergrowth_dagster.intake.uploads import register_repeats
from usergrowth_dagster.messaging.schedules.occurrences import business_now
from usergrowth_dagster.messaging.schedules.series import open_due_repeats
from usergrowth_dagster.messaging.schedules.upcoming import next_due
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings


def occurrences(home: Path) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(home / "control.db")) as connection:
        return connection.execute(
            "select o.name, o.task_id, o.sequence, o.state, o.reason, o.audience_date "
            "from occurrence o join schedule s on s.id = o.schedule_id "
            "where s.name = 'again' order by o.sequence"
        ).fetchall()


def test_each_occurrence_is_decided_on_its_day(world: World, tmp_path: Path) -> None:
    """Guards against a later occurrence that texts the people of the first day, or nobody."""
    home = copy_home(world.decided, tmp_path / "home")
    people = (home / "landing/population/care/population.csv").read_text("utf-8").splitlines()
    write_people(home, "again", people[:101])
    path = write_campaign(
        home,
        "again",
        execution_date=str(day(0)),
        selection="{top_n: 20}",
        schedule="{name: again, repeat_unit: day, repeat_times: 3, refresh_audience: true}",
        contact="{ignore_cap: false, cap_messages: 9}",
    )
    succeeded(cli(home, "apply", "-f", str(path)))
    approve(home, "again")
    succeeded(cli(home, "run", "--date", str(day(0))))
    write_people(home, "again", [people[0], *people[101:181]])  # other people, the same folder
    tomorrow = {"USERGROWTH_TODAY": str(day(-1))}
    succeeded(cli(home, "run", "--date", str(day(-1)), **tomorrow))
    again = f"again-{day(-1):%Y%m%d}"
    assert [row[:4] for row in occurrences(home)] == [
        (f"{day(0):%Y%m%d}-again", "again", 0, "done"),
        (f"{day(-1):%Y%m%d}-{again}", again, 1, "done"),
    ]
    assert [str(row[5]) for row in occurrences(home)] == [str(day(0)), str(day(-1))]
    sent = {
        task: {
            user for name, user, state, *_ in ledger(home) if (name, state) == (task, "accepted")
        }
        for task in ("again", again)
    }
    assert len(sent["again"]) == len(sent[again]) == 20
    assert not sent["again"] & sent[again]
    decided = rows(home, "decisions", f"task_id = '{again}'", "distinct ds, user_id")
    assert {str(ds) for ds, _ in decided} == {str(day(-1))}
    assert {user for _, user in decided} == {line.split(",")[0] for line in people[101:181]}
    assert output(home, again).count(b"\n") == 20
    project = Project(load_settings(home, today=day(-1)))
    assert register_repeats(project, day(-1)) == []  # is there already
    assert [task.task_id for task in tasks_for(project.store, day(-1))] == [again]
    now = business_now(project.settings)
    assert next_due(project.store, project.settings, "again", now) == now + timedelta(hours=22)
    # nobody runs the next day; on the day after that it is recorded
    opened = open_due_repeats(project.store, project.settings, now + timedelta(days=2))
    project.store.close()
    assert opened.opened == []
    assert "nobody decided and planned its audience in its time" in opened.missed[0]
    assert occurrences(home)[2][2:5] == (2, "done", "missed")
