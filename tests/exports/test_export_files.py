"""Exports as files: whole or not seen, each row once, byte for byte, and gone when they expire."""

import csv
import hashlib
import json
import signal
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.export_desk import DAY, HOSTILE, ExportDesk, Person, phone
from support.processes import exit_code

from usergrowth_dagster.control import audit
from usergrowth_dagster.control.store import utc_now
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.exports.expire import expire
from usergrowth_dagster.exports.runs import change_run, runs_of
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.policy.suppression import suppress

FILES = "audience: all\nto: {files: out}"


def versions(desk: ExportDesk) -> list[Path]:
    """Folders with a manifest, oldest first."""
    return sorted(path.parent for path in (desk.home / "out").rglob("manifest.json"))


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of all files that a manifest names."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    rows: list[dict[str, Any]] = []
    for file in manifest["files"]:
        path = folder / file["name"]
        content = path.read_bytes()
        assert len(content) == file["bytes"]
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
        if path.suffix == ".parquet":
            rows += pq.read_table(path).to_pylist()
        else:
            with path.open(encoding="utf-8", newline="") as handle:
                rows += list(csv.DictReader(handle))
    assert len(rows) == manifest["rows"]
    return rows


def test_the_chosen_go_out_with_a_manifest(desk: ExportDesk) -> None:
    """Guards against the control group among those to be contacted, and a manifest that lies."""
    desk.decide(
        [
            Person("u1", score=0.1 + 0.2),
            Person("u2", outcome="explored"),
            Person("u3", arm="control", outcome="holdout"),
            Person("u4", arm="none", outcome="below_threshold"),
        ]
    )
    done = desk.run(desk.export(FILES))
    assert (done.state, done.rows, done.sent, done.failed) == ("sent", 2, 2, 0)
    (folder,) = versions(desk)
    rows = read_rows(folder)
    assert [row["user_id"] for row in rows] == ["u1", "u2"]
    assert rows[0]["score"] == 0.1 + 0.2 and rows[0]["ds"] == DAY
    content = (folder / "manifest.json").read_bytes()
    manifest = json.loads(content)
    assert hashlib.sha256(content).hexdigest() == done.manifest
    assert manifest["tasks"] == ["care"] and manifest["execution_date"] == "2024-03-04"
    assert [one["name"] for one in manifest["schema"]] == list(rows[0])
    assert manifest["table_versions"]["decisions"] == desk.project.warehouse.version("decisions")
    latest = json.loads((desk.home / "out/people/latest.json").read_text())
    assert desk.home / "out/people" / latest["folder"] == folder


def test_unchanged_rows_do_nothing(desk: ExportDesk) -> None:
    """Guards against a second copy of the same people, and against a stale one after a change."""
    export = desk.export(FILES)
    desk.decide(["u1", "u2"])
    assert desk.run(export).state == "sent"
    again = desk.run(export)
    assert again.state == "unchanged" and again.sentence.startswith("export people: nothing new: ")
    assert len(versions(desk)) == 1 and len(runs_of(desk.project.store)) == 1
    desk.decide(["u1", "u3"])
    assert desk.run(export).state == "sent"
    desk.decide(["u1", "u2"])
    assert desk.run(export).state == "sent"  # as the first version, which is not the newest
    assert len(versions(desk)) == 3
    assert [row["user_id"] for row in read_rows(versions(desk)[-1])] == ["u1", "u2"]
    assert desk.run(export, again=True).state == "sent" and len(versions(desk)) == 4


@pytest.mark.parametrize("damage", ["manifest", "file", "cut", "folder"])
def test_a_destination_that_lost_the_files_gets_them_again(desk: ExportDesk, damage: str) -> None:
    """Guards against "nothing new" beside a folder that somebody has emptied."""
    export = desk.export(FILES)
    desk.decide(["u1", "u2"])
    desk.run(export)
    (folder,) = versions(desk)
    (part,) = folder.glob("part-*")
    if damage == "manifest":
        (folder / "manifest.json").unlink()
    elif damage == "file":
        part.unlink()
    elif damage == "cut":
        part.write_bytes(part.read_bytes()[:-1])
    else:
        (desk.home / "out").rename(desk.home / "elsewhere")
    assert desk.run(export).state == "sent"
    assert len(read_rows(versions(desk)[-1])) == 2


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_ids_survive_byte_for_byte(desk: ExportDesk, form: str) -> None:
    """Guards against an id that loses a zero or a space, or becomes a number, NULL or two lines."""
    desk.decide([*HOSTILE, Person("no_item", item_id=""), Person("item", item_id=" \n,")])
    desk.run(desk.export(f"{FILES}\nformat: {form}\nfile_rows: 7"))
    (folder,) = versions(desk)
    rows = read_rows(folder)
    assert [row["user_id"] for row in rows] == [*HOSTILE, "no_item", "item"]
    assert [row["item_id"] for row in rows][-2:] == ["", " \n,"]
    assert len(list(folder.glob("part-*"))) == -(-len(rows) // 7)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    ids=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
        max_size=20,
        unique=True,
    ),
    form=st.sampled_from(["parquet", "csv"]),
    file_rows=st.integers(1, 25),
)
def test_rows_out_are_rows_of_the_query(
    desk: ExportDesk, ids: list[str], form: str, file_rows: int
) -> None:
    """Guards against a row that is lost, doubled or changed at the edge of a file or in its form."""
    desk.decide([Person(one, score=None if number % 3 else 0.1) for number, one in enumerate(ids)])
    export = desk.export(f"{FILES}\nformat: {form}\nfile_rows: {file_rows}")
    done = desk.run(export, again=True)
    rows = read_rows(desk.home / "out" / done.place)
    assert [row["user_id"] for row in rows] == ids and done.rows == done.sent == len(ids)
    if form == "csv" and ids:  # another reader sees the same, and NULL where there is none
        files = [str(path) for path in sorted((desk.home / "out" / done.place).glob("*.csv"))]
        with duckdb.connect() as connection:
            counted = connection.execute(
                "select count(*), count(score) from read_csv(?, all_varchar=true, header=true, "
                "delim=',', quote='\"', escape='\"', parallel=false)",
                [files],
            ).fetchone()
        if not any("\0" in one for one in ids):
            assert counted == (len(ids), len(range(0, len(ids), 3)))


def test_formulas_are_guarded_where_a_person_asks(desk: ExportDesk) -> None:
    """Guards against a cell that a spreadsheet executes."""
    desk.decide(["=cmd()", "+1", "-1", "@x", "\tx", "\rx", "\nx", *"＝＋－＠", "a=b", "007"])
    desk.run(desk.export(f"{FILES}\nformat: csv\nfor_spreadsheets: true"))
    rows = read_rows(versions(desk)[0])
    guarded = ["'=cmd()", "'+1", "'-1", "'@x", "'\tx", "'\rx", "'\nx", "'＝", "'＋", "'－", "'＠"]
    guarded += ["a=b", "007"]
    assert [row["user_id"] for row in rows] == guarded


def test_addresses_need_consent_and_leave_a_record(desk: ExportDesk) -> None:
    """Guards against phone numbers that leave by a slip, or without a record."""
    desk.decide([Person("u1", phone=phone(1), email="a@shop.example")])
    columns = "columns: {who: user_id, number: phone, mail: email}"
    with pytest.raises(
        UserError, match=r"exports\.0\.contains_addresses: must be true, since phone and email"
    ):
        desk.export(f"{FILES}\n{columns}")
    done = desk.run(desk.export(f"{FILES}\n{columns}\ncontains_addresses: true"))
    assert read_rows(versions(desk)[0]) == [
        {"who": "u1", "number": phone(1), "mail": "a@shop.example"}
    ]
    (entry,) = audit.entries(desk.project.store, action="export-addresses")
    assert entry.actor == "test" and entry.subject == "export people"
    assert entry.detail == f"1 rows of care on {DAY} with phone and email to {desk.home}/out"
    assert phone(1)[4:] not in repr(done) + (versions(desk)[0] / "manifest.json").read_text()
    desk.run(desk.export(FILES))
    assert len(audit.entries(desk.project.store, action="export-addresses")) == 1
    assert set(read_rows(versions(desk)[-1])[0]).isdisjoint({"phone", "email"})


def test_an_upload_that_changed_gives_no_address(desk: ExportDesk) -> None:
    """Guards against the number of another person beside a user."""
    desk.decide([Person("u1", phone=phone(1)), Person("u2", phone=phone(2))])
    desk._upload([Person("u2", phone=phone(2)), Person("u1", phone=phone(1))], "care", DAY)
    export = desk.export(f"{FILES}\ncolumns: [user_id, phone]\ncontains_addresses: true")
    with pytest.raises(UserError, match="2 rows are not in it as they were decided") as refused:
        desk.run(export)
    assert refused.value.code == "population.invalid" and not versions(desk)


@pytest.mark.parametrize("by", ["user", "phone", "email"])
def test_who_refuses_stays_at_home(desk: ExportDesk, by: str) -> None:
    """Guards against another tool contacting people who refused here."""
    people = [Person("u1", phone=phone(1), email="a@shop.example"), Person("u2", phone=phone(2))]
    desk.decide(people)
    export = desk.export(FILES)
    assert desk.run(export).rows == 2
    address = {"user": None, "phone": phone(1), "email": "a@shop.example"}[by]
    suppress(
        desk.project.store,
        open_vault(desk.home),
        phone=address,
        user_id="u1" if by == "user" else None,
        channel="email" if by == "email" else "sms",
        reason="by_hand",
        source="test",
        now=utc_now(),
        actor="test",
    )
    done = desk.run(export)
    assert (done.state, done.rows, done.left_out) == ("sent", 1, {"forgotten": 0, "refused": 1})
    assert [row["user_id"] for row in read_rows(versions(desk)[-1])] == ["u2"]
    assert desk.run(desk.export(f"{FILES}\nrefused: keep")).rows == 2
    assert desk.run(desk.export("audience: all\nrows: all\nto: {files: out}")).rows == 2


def test_scores_of_a_question(desk: ExportDesk) -> None:
    """Guards against scores of another question, and tasks in the manifest that gave no row."""
    import pyarrow as pa

    desk.decide(["u1"])
    desk.decide(["u2"], "other")
    for task, model in (("care", "churn"), ("other", "winback")):
        table = pa.table(
            {
                "ds": pa.array([DAY], pa.date32()),
                "task_id": [task],
                "row": pa.array([0], pa.int64()),
                "user_id": [f"of {task}"],
                "item_id": [""],
                "score": [0.25],
                "model_name": [model],
                "model_version": ["1"],
            }
        )
        desk.project.warehouse.replace(
            "scores", table, days=[DAY], scope={"task_id": task}, fingerprints={DAY: task}
        )
    done = desk.run(desk.export("scores: {question: churn}\nto: {files: out}"))
    assert [row["user_id"] for row in read_rows(versions(desk)[0])] == ["of care"]
    assert done.tasks == ("care",)


def test_tasks_of_a_date(desk: ExportDesk) -> None:
    """Guards against the people of another campaign or date, and of a task that is not decided."""
    from usergrowth_dagster.control.tasks import register_task

    desk.decide(["u1"], "care-1")
    desk.decide(["u2"], "care-2")
    desk.decide(["u3"], "other")
    desk.decide(["u4"], "care-old", DAY - timedelta(days=1))
    register_task(desk.project.store, "care", "care-3", DAY, "test")
    done = desk.run(desk.export("audience: {campaign: care}\nto: {files: out}"))
    assert done.tasks == ("care-1", "care-2") and done.waiting == ("care-3",)
    assert done.sentence.endswith("; not ready: care-3")
    one = desk.run(desk.export(FILES), task_id="other")
    assert one.tasks == ("other",) and "/task-other/" in one.place
    with pytest.raises(UserError, match="no task is called 'nobody'"):
        desk.run(desk.export("audience: {task: nobody}\nto: {files: out}"))
    with pytest.raises(UserError, match=f"not decided on {DAY}: care-3") as refused:
        desk.run(desk.export("audience: {task: care-3}\nto: {files: out}"))
    assert refused.value.code == "task.undecided"
    other_day = desk.run(desk.export("audience: {task: other}\nto: {files: out}"), date(2024, 1, 5))
    assert other_day.state == "nothing"
    assert desk.run(desk.export(FILES), date(2024, 1, 5)).state == "nothing"


def test_files_expire(desk: ExportDesk) -> None:
    """Guards against people who lie in a folder for ever, and against files removed too early."""
    export = desk.export(f"{FILES}\nexpires_after_days: 2")
    desk.decide(["u1"])
    done = desk.run(export)
    assert expire(desk.project, (export,), actor="test").removed == ()
    (run,) = runs_of(desk.project.store)
    assert run.expires_time is not None and run.expires_time - run.started_time == timedelta(days=2)
    change_run(desk.project.store, run.id, expires_time=utc_now() - timedelta(seconds=1))
    (listed,) = expire(desk.project, (export,), actor="test", dry_run=True).removed
    assert versions(desk) and listed.place == f"{desk.home}/out/{done.place}"
    (removed,) = expire(desk.project, (export,), actor="test").removed
    assert removed == listed and not [p for p in (desk.home / "out").rglob("*") if p.is_file()]
    assert expire(desk.project, (export,), actor="test").removed == ()
    assert desk.run(export).state == "sent"  # who asks for it gets it again
    moved = desk.export("audience: all\nto: {files: elsewhere}")
    change_run(desk.project.store, runs_of(desk.project.store)[-1].id, expires_time=utc_now())
    (failure,) = expire(desk.project, (moved,), actor="test").failures
    assert "exports.yml names that place no more" in failure and versions(desk)


CHILD = """
import os, signal, sys
from datetime import date
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.exports.run import exports_of, run_export
from usergrowth_dagster.project import Project
project, left = Project.open(sys.argv[1]), [int(sys.argv[2])]
write = Storage.write_atomic
def counted(self, path, produce):
    if "out" in self.root:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    write(self, path, produce)
Storage.write_atomic = counted
(export,) = exports_of(project)
run_export(project, export, date(2024, 3, 4), actor="child")
"""


@pytest.mark.parametrize("writes", range(1, 6))
def test_a_killed_export_is_never_half_seen(desk: ExportDesk, writes: int) -> None:
    """Guards against a reader that takes a part for the whole, and people who go out twice.

    The writes are the check, two files, the manifest, and latest.json.
    """
    desk.decide(["u1", "u2"])
    export = desk.export(f"{FILES}\nfile_rows: 1")
    assert exit_code(CHILD, str(desk.home), str(writes)) == (-signal.SIGKILL if writes < 5 else 0)
    for folder in versions(desk):
        assert len(read_rows(folder)) == 2
    assert len(versions(desk)) == (1 if writes >= 4 else 0)
    done = desk.run(export)
    assert done.state == ("unchanged" if writes == 5 else "sent")
    (folder,) = versions(desk)
    assert [row["user_id"] for row in read_rows(folder)] == ["u1", "u2"]
    assert [path for path in folder.parent.iterdir() if path.is_dir()] == [folder]
    latest = json.loads((desk.home / "out/people/latest.json").read_text())
    assert desk.home / "out/people" / latest["folder"] == folder
    states = [run.state for run in runs_of(desk.project.store)]
    assert states == (["done"] if writes >= 4 else ["failed", "done"]) or states == ["done"]


def test_a_folder_that_cannot_be_written_is_one_sentence(desk: ExportDesk) -> None:
    """Guards against a traceback, and a run that looks as if it were at work for ever."""
    desk.decide(["u1"])
    (desk.home / "out").write_text("a file")
    with pytest.raises(
        UserError, match=r"^export people: to\.files: .*/out cannot be used: "
    ) as refused:
        desk.run(desk.export(FILES))
    assert refused.value.code == "export.unreachable" and "\n" not in str(refused.value)


def test_files_are_for_their_owner(desk: ExportDesk) -> None:
    """Guards against numbers that every user of the machine can read."""
    desk.decide([Person("u1", phone=phone(1))])
    desk.run(desk.export(f"{FILES}\ncolumns: [phone]\ncontains_addresses: true"))
    modes = {oct(path.stat().st_mode & 0o077) for path in versions(desk)[0].iterdir()}
    assert modes == {"0o0"}


ODD_LATEST = [b"", b"null", b"[]", b"{}", b"\xff", b'{"folder": 1}']
ODD_LATEST += [
    b'{"execution_date": 5, "folder": "x"}',
    b'{"execution_date": "soon", "folder": "x"}',
]


@pytest.mark.parametrize("content", ODD_LATEST)
def test_a_latest_that_somebody_changed_is_written_again(desk: ExportDesk, content: bytes) -> None:
    """Guards against a traceback, or an export that never runs again, for what others wrote."""
    desk.decide(["u1"])
    export = desk.export(f"{FILES}\nexpires_after_days: 1")
    desk.run(export)
    latest = desk.home / "out/people/latest.json"
    latest.write_bytes(content)
    done = desk.run(export, again=True)
    assert desk.home / "out/people" / json.loads(latest.read_text())["folder"] == (
        desk.home / "out" / done.place
    )
    latest.write_bytes(content)
    for run in runs_of(desk.project.store):
        change_run(desk.project.store, run.id, expires_time=utc_now() - timedelta(seconds=1))
    expiry = expire(desk.project, (export,), actor="test")
    assert len(expiry.removed) == 2 and not expiry.failures and versions(desk) == []
