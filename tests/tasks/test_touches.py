"""What we sent becomes operation rows: every accepted message and held-out person once."""

import csv
import io
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from chain_world import campaign
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from sqlalchemy import select

from usergrowth_dagster.audience.decisions import DECISION_COLUMNS
from usergrowth_dagster.control import codes, schema
from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import parse_campaign
from usergrowth_dagster.data.contracts import LANDING_TABLES
from usergrowth_dagster.intake.touches import (
    FILE_NAME,
    ExportedDay,
    erase_from_touches,
    export_touches,
    write_rows,
)
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.people.forget import forget
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.landing import land_days

D = date(2026, 3, 2)
DAYS = [D + timedelta(days=n) for n in range(-1, 5)]
ZONE = ZoneInfo("Asia/Shanghai")
TOOK = ("accepted", "delivered", "undelivered", "expired")
CAMPAIGNS = {"one": "spring", "two": "care"}
"""Campaigns by task."""
LATER = datetime(2026, 3, 3, tzinfo=UTC)


@pytest.fixture
def project(settings: Settings) -> Project:
    """A home with two campaigns, a task each; their texts' names are no legal kvs values."""
    project = Project(settings)
    for task, name in CAMPAIGNS.items():
        text = campaign(
            name,
            population=f"population/{task}",
            execution_date=str(D),
            template=f"{{name: 'text: of {task}', content: 'Come back. 拒收请回复R'}}",
        )
        apply_campaign(project.store, parse_campaign(text), "test")
    return project


def moment(day: int, hour: int) -> datetime:
    """A time of the business clock."""
    return datetime(D.year, D.month, D.day, hour, 30, tzinfo=ZONE) + timedelta(days=day)


def decide(project: Project, task: str, rows: list[dict[str, Any]]) -> None:
    """Write a task's decision."""
    given = [
        {
            "ds": D,
            "task_id": task,
            "campaign": CAMPAIGNS[task],
            "row": n,
            "item_id": "i1",
            "outcome": "x",
        }
        | row
        for n, row in enumerate(rows, 1)
    ]
    kinds = {
        "DATE": pa.date32(),
        "BIGINT": pa.int64(),
        "INTEGER": pa.int32(),
        "DOUBLE": pa.float64(),
        "BOOLEAN": pa.bool_(),
    }
    layout = pa.schema([(n, kinds.get(k, pa.string())) for n, k in DECISION_COLUMNS.items()])
    table = pa.Table.from_pylist(
        [{n: row.get(n) for n in DECISION_COLUMNS} for row in given], layout
    )
    project.warehouse.replace(
        "decisions", table, days=[D], scope={"task_id": task}, fingerprints={D: "mark"}
    )


def send(project: Project, task: str, due: datetime, rows: list[dict[str, Any]]) -> None:
    """An occurrence of a task with its messages."""
    vault = open_vault(project.settings.home)
    times = {"created_time": LATER, "updated_time": LATER}
    schedule, template = schema.schedule, schema.template
    with project.store.write() as connection:
        place, code = connection.execute(
            select(schedule.c.id, template.c.template_code)
            .join(template, template.c.id == schedule.c.template_id)
            .where(schedule.c.name == CAMPAIGNS[task])
        ).one()
        values = {"schedule_id": place, "name": str(due), "task_id": task, "channel": "sms"}
        values |= {"state": codes.OccurrenceState.DONE, "due": due, "send_by": due, "content": ""}
        values |= {"template_code": code, "template_type": codes.TemplateType.PROMOTION}
        values |= {"signature": "S", "price": 0.1, "currency": "CNY", "audience_date": D}
        made = connection.execute(schema.occurrence.insert().values(**values, **times))
        (occurrence,) = made.inserted_primary_key or ()
        usual = {"item_id": "i1", "template_params": "{}", "segments": 1, "attempts": 1}
        for row in rows:
            connection.execute(
                schema.message.insert().values(
                    **usual | row,
                    occurrence_id=occurrence,
                    channel="sms",
                    user_hash=vault.user_digest(row["user_id"]),
                    updated_time=LATER,
                )
            )


def wipe(project: Project) -> None:
    """No occurrences, no messages, no files."""
    with project.store.write() as connection:
        for table in (schema.message, schema.occurrence):
            connection.execute(table.delete())
    project.landing.remove("operation")


def rows_of(project: Project) -> dict[date, list[dict[str, str]]]:
    """What the files of all days say."""
    by_day = {}
    for entry in project.landing.files("operation", deep=True):
        assert entry.name == FILE_NAME
        day = datetime.strptime(entry.path.split("ds=")[1][:8], "%Y%m%d").date()
        text = project.landing.read_bytes(entry.path).decode()
        by_day[day] = list(csv.DictReader(io.StringIO(text)))
    return by_day


USERS = [f"u{n}" for n in range(6)] + ["u,comma", 'u"quote', "forgotten-not"]
ARMS = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from(USERS),
        "arm": st.sampled_from(["treatment", "control", "none"]),
        "propensity": st.sampled_from([0.81, 0.19, 1.0]),
        "state": st.sampled_from(list(codes.MessageState)),
        "day": st.integers(-1, 4),
        "hour": st.integers(0, 23),
        "segments": st.integers(1, 3),
        "variant": st.sampled_from([None, "a b"]),
    }
)
CAMPAIGN = st.lists(ARMS, max_size=9, unique_by=lambda row: row["user_id"])


@profile(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.tuples(CAMPAIGN, CAMPAIGN), st.integers(-1, 4))
def test_every_accepted_message_and_held_out_row_once(
    project: Project, given: tuple[list[dict[str, Any]], ...], due: int
) -> None:
    """A touch is lost, doubled or invented on the way back, and models learn from that.

    Against plain Python, for any states, days, arms and names.
    """
    wipe(project)
    expected: dict[date, list[tuple[Any, ...]]] = {}

    def expect(day: int, *row: Any) -> None:
        expected.setdefault(D + timedelta(days=day), []).append(row)

    for task, people in zip(CAMPAIGNS, given, strict=True):
        decide(
            project,
            task,
            [
                {"user_id": p["user_id"], "arm": p["arm"], "propensity": p["propensity"]}
                for p in people
            ],
        )
        texted = [p for p in people if p["arm"] == "treatment"]
        messages = []
        for p in texted:
            unsent = p["state"] in ("planned", "claimed", "skipped")
            sent = None if unsent else moment(p["day"], p["hour"])
            kept = {key: p[key] for key in ("user_id", "state", "segments", "variant")}
            messages.append({**kept, "sent_time": sent})
        send(project, task, moment(due, 8), messages)
        fields = f"channel:sms campaign:{CAMPAIGNS[task]} task:{task}"
        for p in (p for p in texted if p["state"] in TOOK):
            copy = "a_b variant:a_b" if p["variant"] else f"text_of_{task}"
            numbers = f"hh{p['hour']:02d}:1 messages:{p['segments']} propensity:{p['propensity']}"
            expect(p["day"], p["user_id"], "sms", "i1", numbers, f"{fields} copy:{copy}")
        if any(p["state"] in TOOK for p in texted):
            for p in people:
                if p["arm"] == "control" or (p["arm"] == "none" and p["propensity"] < 1):
                    chance = f"propensity:{p['propensity']}"
                    expect(due, p["user_id"], "holdout", "i1", chance, fields)
    done = export_touches(project, DAYS)
    exported = {
        day: sorted(tuple(row.values()) for row in rows) for day, rows in rows_of(project).items()
    }
    assert exported == {day: sorted(rows) for day, rows in expected.items()}
    assert {d.day: d.touches + d.held_out for d in done if d.touches + d.held_out} == {
        day: len(rows) for day, rows in expected.items()
    }
    before = {entry.path: entry.tag for entry in project.landing.files("operation", deep=True)}
    again = export_touches(project, DAYS)
    assert {d.state for d in again} <= {"unchanged", "none"}
    assert before == {e.path: e.tag for e in project.landing.files("operation", deep=True)}
    landed = land_days(
        project.settings, project.landing, project.warehouse, "operation", list(expected)
    )
    assert [d.quarantined for d in landed] == [0] * len(expected)
    assert sum(d.accepted for d in landed) == sum(map(len, expected.values()))
    assert "operation" in LANDING_TABLES


def filled(project: Project) -> list[ExportedDay]:
    """A texted user and a held-out one, exported."""
    decide(
        project,
        "one",
        [
            {"user_id": "u1", "arm": "treatment", "propensity": 0.9},
            {"user_id": "u2", "arm": "control", "propensity": 0.1},
        ],
    )
    row = {"user_id": "u1", "state": codes.MessageState.ACCEPTED, "sent_time": moment(0, 9)}
    send(project, "one", moment(0, 8), [row])
    return export_touches(project, DAYS)


def test_other_files_and_days_are_left_alone(project: Project) -> None:
    """The user's own operation files of the day go, or a day that is not asked for is emptied."""
    theirs = "operation/ds=20260302/theirs.csv"
    project.landing.write_bytes(theirs, b"user_id,target,item_id,kvs_num,kvs_str\n")
    assert [(d.day, d.touches, d.held_out) for d in filled(project) if d.state == "written"] == [
        (D, 1, 1)
    ]
    exported = f"operation/ds=20260302/{FILE_NAME}"
    kept = project.landing.read_bytes(exported)
    with project.store.write() as connection:
        connection.execute(schema.message.delete())
    export_touches(project, [D + timedelta(days=1)])
    assert project.landing.read_bytes(exported) == kept
    assert [d.state for d in export_touches(project, [D])] == ["removed"]
    assert project.landing.exists(theirs) and not project.landing.exists(exported)


def test_the_export_can_be_turned_off(project: Project) -> None:
    """Where another system lands the same touches, each would count twice."""
    off = load_settings(project.settings.home, export_touches=False)
    assert filled(Project(off)) == []
    assert not project.landing.exists("operation")


def test_forgotten_people_leave_the_files(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own landing files keep on naming a person who was forgotten."""
    filled(project)
    assert sum(map(len, rows_of(project).values())) == 2
    counted = forget(project, "u1", actor="test", dry_run=True)
    assert counted.touches == 1
    assert forget(project, "u1", actor="test").touches == 1
    assert [row["user_id"] for rows in rows_of(project).values() for row in rows] == ["u2"]
    assert [(d.touches, d.held_out) for d in export_touches(project, [D])] == [(0, 1)]
    text = "".join(p.read_text() for p in Path(project.settings.landing_root).rglob("*.csv"))
    assert "u1" not in text and "forgotten" not in text


ASCII = [chr(number) for number in range(1, 128)]
NAMES = ["\\N", "NULL", "", " ", "user_id", "a,sms", "#1007", "a#", "\n#", '"', '""', "7,\n8"]


def test_no_id_hides_from_being_forgotten(settings: Settings, project: Project) -> None:
    """Guards against an id that stays since the file quotes it and the search did not (``#1007``).

    Each id with each character of ASCII, alone and within others, has two rows, one of them with an
    item that looks like another row. Erasing it takes those two and leaves every other row, and the
    header, as they were.
    """
    ids = sorted({*NAMES, *ASCII, *(f"u{c}7" for c in ASCII), *(f"{c}u" for c in ASCII)} - {""})
    with open_engine(settings) as engine:
        engine.bind_arrow("people", pa.table({"user_id": ids, "next": [*ids[1:], ids[0]]}))
        rows = (
            "select user_id, target, item_id from people, (values ('sms', 'x'), ('holdout', null)) "
            "as t (target, item) , lateral (select case when item is null then null else "
            "chr(10) || next || ',sms' end as item_id) order by all"
        )
        write_rows(engine, project.landing, D, rows)
    path = f"operation/ds={D:%Y%m%d}/{FILE_NAME}"

    def kept() -> list[list[str]]:
        if not project.landing.exists(path):
            return []
        with project.landing.open(path) as handle:
            text = io.TextIOWrapper(handle, "utf-8", newline="").read()
        return list(csv.reader(io.StringIO(text, newline="")))

    left = kept()
    assert len(left) == 1 + 2 * len(ids)
    for name in ids[:-1]:
        assert erase_from_touches(project.landing, name, dry_run=True) == 2, name
        assert erase_from_touches(project.landing, name) == 2, name
        left = [row for number, row in enumerate(left) if not number or row[0] != name]
        assert kept() == left, name
    assert erase_from_touches(project.landing, ids[-1]) == 2
    assert kept() == []
