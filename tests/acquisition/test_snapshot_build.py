"""The daily snapshot from landed ids, activity and scores: the command and the asset."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from support.identity_desk import DAY, IdentityDesk, before
from typer.testing import CliRunner

from usergrowth_dagster.acquisition.build import build_snapshot, snapshot_folder, snapshot_state
from usergrowth_dagster.acquisition.devices import Device, hashed
from usergrowth_dagster.acquisition.snapshot import Known, Snapshot, current_name
from usergrowth_dagster.cli import app
from usergrowth_dagster.defs.build import build_definitions
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.segments.snapshots import MEMBERS, scope_of, write_record
from usergrowth_dagster.segments.snapshots import Snapshot as SegmentSnapshot

POLICY = """
salt: s
ids: {idfa: idfa, phone_id: {kind: imei, hashed: true}}
active_days: 7
score: {question: winback, max_age_days: 2}
strategies: [{name: lapsed, device: known, active: false, score_at_least: 0.5}]
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IdentityDesk:
    """A home with devices of four users; two of them share one."""
    made = IdentityDesk(tmp_path / "home")
    monkeypatch.setenv("USERGROWTH_HOME", str(made.home))
    (made.home / "acquisition.yml").write_text(POLICY)
    made.land(
        [
            ("active", "idfa", "aa-1"),
            ("lapsed", "idfa", "AA-2"),
            ("lapsed", "phone_id", hashed("imei", "7").upper()),
            ("other", "idfa", "aa-2"),
            ("other", "idfa", "00000000-0000-0000-0000-000000000000"),
            ("other", "phone_id", "no hash"),
            ("active", "mail", "a@shop.example"),
        ],
        before(1),
    )
    made.land([("late", "idfa", "aa-9")], DAY)
    write_activity(made.project)
    write_scores(made.project)
    return made


def write_activity(project: Project) -> None:
    days = {before(7): "active", before(8): "lapsed", DAY: "other"}
    rows = {"ds": pa.array(list(days), pa.date32()), "user_id": list(days.values())}
    project.warehouse.replace("user_day", pa.table(rows), days=days)


def write_scores(project: Project) -> None:
    """Scores of three dates, of which only the newest within two days counts."""
    rows = [
        (before(3), "active", 0.9, "winback"),
        (before(1), "lapsed", 0.25, "winback"),
        (before(1), "other", 0.75, "winback"),
        (before(1), "active", 0.99, "churn"),
        (before(1), "active", float("nan"), "winback"),
        (DAY + timedelta(days=1), "active", 0.8, "winback"),
    ]
    columns = dict(
        zip(("ds", "user_id", "score", "model_name"), zip(*rows, strict=True), strict=True)
    )
    table = pa.table({**columns, "ds": pa.array(columns["ds"], pa.date32())})
    project.warehouse.replace("scores", table, days={row[0] for row in rows})


def facts(desk: IdentityDesk) -> dict[str, Known | None]:
    folder = snapshot_folder(desk.project)
    snapshot = Snapshot(folder / str(current_name(folder)))
    asked = {name: Device("idfa", hashed("idfa", name)) for name in ("aa-1", "aa-2", "aa-9")}
    known = {name: snapshot.find(device) for name, device in asked.items()}
    return known | {"7": snapshot.find(Device("imei", hashed("imei", "7")))}


def test_a_snapshot_has_what_was_known_in_the_morning(desk: IdentityDesk) -> None:
    """Guards against facts of the day itself, of another question, or of one of two users."""
    built = build_snapshot(Project.open(desk.home), DAY)
    assert (built.devices, built.active, built.scored) == ({"idfa": 2, "imei": 1}, 1, 2)
    right = {
        "aa-1": Known(True, None),
        "aa-2": Known(False, 0.75),
        "aa-9": None,
        "7": Known(False, 0.25),
    }
    assert facts(desk) == right
    with pytest.raises(UserError, match="no rows of identity/ have landed before 2024-01-02"):
        build_snapshot(Project.open(desk.home), date(2024, 1, 2))
    result = CliRunner().invoke(app, ["rta", "snapshot", "--date", "2024-03-05", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["devices"] == {"idfa": 3, "imei": 1}
    assert facts(desk)["aa-9"] == Known(False, None)


def test_a_segment_says_who_is_active(desk: IdentityDesk) -> None:
    """Guards against members of a later snapshot, and activity that counts beside the segment."""
    (desk.home / "acquisition.yml").write_text(POLICY + "active_segment: members\n")
    with pytest.raises(UserError, match="has no segment 'members'"):
        build_snapshot(Project.open(desk.home), DAY)
    (desk.home / "segments").mkdir()
    (desk.home / "segments/members.yml").write_text("select: select user_id from user_features\n")
    with pytest.raises(UserError, match="members has no snapshot up to 2024-03-04; run usergrowth"):
        build_snapshot(Project.open(desk.home), DAY)
    for day, user in ((before(1), "lapsed"), (DAY + timedelta(days=1), "active")):
        write_members(desk.project, day, user)
    built = build_snapshot(Project.open(desk.home), DAY)
    assert built.active == 2
    right = {"aa-1": Known(False, None), "aa-2": Known(True, 0.75), "7": Known(True, 0.25)}
    assert facts(desk) == right | {"aa-9": None}


def write_members(project: Project, day: date, user: str) -> None:
    """A snapshot of the segment with one member."""
    texts = dict.fromkeys(("version", "definition", "sha256", "inputs", "made_by", "reason"), "")
    record = SegmentSnapshot(
        ds=day,
        segment="members",
        snapshot=f"of-{day}",
        fingerprint=str(day),
        sizes=None,
        notes=(),
        made_at=datetime.combine(day, datetime.min.time(), UTC),
        error="",
        **texts,
    )
    write_record(project.warehouse, record)
    row = {"ds": pa.array([day], pa.date32()), "user_id": [user]}
    scope = scope_of("members", record.snapshot)
    table = pa.table({**row, **{name: [value] for name, value in scope.items()}})
    project.warehouse.replace(MEMBERS, table, days=[day], scope=scope)


def test_a_snapshot_that_is_too_old_is_noticed(
    desk: IdentityDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against bids by on_failure for weeks, after a daily run that has stopped unseen."""
    assert snapshot_state(desk.project) == "no snapshot yet; usergrowth rta snapshot makes it"
    build_snapshot(desk.project, DAY)
    assert snapshot_state(desk.project) == "3 ids as of 2024-03-04"
    monkeypatch.setenv("USERGROWTH_TODAY", str(DAY + timedelta(days=3)))
    with pytest.raises(UserError, match="the snapshot of devices is of 2024-03-04, and stale"):
        snapshot_state(Project.open(desk.home))


def test_the_asset_writes_it_and_says_how_many(desk: IdentityDesk) -> None:
    """Guards against a snapshot that no job makes, an id in metadata, and a lost dependency."""
    desk.types("{}")
    definitions = build_definitions(str(desk.home))
    graph = definitions.resolve_asset_graph()
    parents = {key.to_user_string() for key in graph.get(dg.AssetKey("rta_snapshot")).parent_keys}
    assert parents == {"user_day", "raw_identity", "scores"}
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_job_def("acquisition").execute_in_process(
            instance=instance, partition_key=DAY.isoformat()
        )
        made = {
            one.asset_key.to_user_string(): one for one in result.get_asset_materialization_events()
        }
        logged = [str(entry) for entry in instance.all_logs(result.run_id)]
    assert made.keys() == {"rta_snapshot", "rta_log"}
    event = made["rta_snapshot"]
    assert event.materialization.metadata["dagster/row_count"].value == 3
    assert facts(desk)["aa-2"] == Known(False, 0.75)
    assert not any(hashed("idfa", "aa-2") in entry or "aa-2" in entry for entry in logged)
