"""A forgotten person is gone from exported files, and what cannot be reached is named."""

import json
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.export_desk import DAY, HOSTILE, ExportDesk, Person, phone
from support.page_receiver import receiving
from support.processes import exit_code

from usergrowth_dagster.exports.runs import RowError, add_progress, errors_of, runs_of
from usergrowth_dagster.people.forget import forget

FILES = "audience: all\nto: {files: out}"


def folder_of(desk: ExportDesk) -> Path:
    """The one version with a manifest."""
    (manifest,) = (desk.home / "out").rglob("manifest.json")
    return manifest.parent


def content_of(desk: ExportDesk) -> bytes:
    """All bytes of exported files, with Parquet's values in the open."""
    content = b""
    for path in sorted((desk.home / "out").rglob("*")):
        if path.suffix == ".parquet":
            content += repr(pq.read_table(path).to_pylist()).encode()
        elif path.is_file():
            content += path.read_bytes()
    return content


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_files_are_written_without_the_person(desk: ExportDesk, form: str) -> None:
    """Guards against a person who stays in a file, and others who leave or change with them."""
    desk.decide([*HOSTILE, Person("the one", score=0.123)])
    export = desk.export(f"{FILES}\nformat: {form}\nfile_rows: 7")
    desk.run(export)
    before = content_of(desk)
    lines = [line for line in before.split(b"\n") if b"the one" not in line]
    assert forget(desk.project, "the one", actor="test", dry_run=True).exports == 1
    assert content_of(desk) == before
    report = forget(desk.project, "the one", actor="test")
    assert report.exports == 1 and report.failures == []
    folder = folder_of(desk)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["rows"], manifest["erased"]) == (len(HOSTILE), 1)
    after = content_of(desk)
    assert b"the one" not in after
    if form == "csv":
        parts = b"".join(path.read_bytes() for path in sorted(folder.glob("*.csv")))
        assert [one for one in parts.split(b"\n") if one and not one.startswith(b'"ds"')] == [
            one for one in lines if one.startswith((b"2024", b"return", b"newline"))
        ]
    else:
        names = [
            pq.read_table(path).column("user_id").to_pylist()
            for path in sorted(folder.glob("*"))[1:]
        ]
        assert [name for part in names for name in part] == HOSTILE
    latest = json.loads((desk.home / "out/people/latest.json").read_text())
    assert desk.home / "out/people" / latest["folder"] == folder
    assert len([path for path in folder.parent.iterdir() if path.is_dir()]) == 1
    assert forget(desk.project, "the one", actor="test").exports == 0
    desk.decide(["u1", "the one"])
    done = desk.run(export)
    assert (done.rows, done.left_out["forgotten"]) == (1, 1) and b"the one" not in content_of(desk)


def test_a_guarded_id_is_found_and_one_that_looks_like_it_stays(desk: ExportDesk) -> None:
    """Guards against an id with an apostrophe that stays, or another person who goes with it."""
    desk.decide(["=1", "u1", "'u1"])
    desk.run(desk.export(f"{FILES}\nformat: csv\nfor_spreadsheets: true"))
    assert forget(desk.project, "u1", actor="test").exports == 1
    assert b'"\'u1"' in content_of(desk)
    assert forget(desk.project, "=1", actor="test").exports == 1
    assert b"=1" not in content_of(desk) and b'"\'u1"' in content_of(desk)


def test_a_file_of_addresses_alone_is_found_by_them(desk: ExportDesk) -> None:
    """Guards against a number that stays in a file since no user stands beside it."""
    desk.decide(
        [Person("u1", phone=phone(1), email="Ann@Shop.example "), Person("u2", phone=phone(2))]
    )
    desk.run(
        desk.export(f"{FILES}\nformat: csv\ncolumns: [phone, email]\ncontains_addresses: true")
    )
    report = forget(desk.project, "u1", actor="test")
    assert report.exports == 1
    assert phone(1).encode() not in content_of(desk) and b"nn@" not in content_of(desk)
    assert phone(2).encode() in content_of(desk)


def test_a_given_number_is_erased_beside_another_user(desk: ExportDesk) -> None:
    """Guards against the number of a forgotten person that stands beside a second account."""
    desk.decide([Person("u1", phone=phone(1)), Person("u2", phone=phone(1)), Person("u3")])
    desk.run(desk.export(f"{FILES}\ncolumns: [user_id, phone]\ncontains_addresses: true"))
    report = forget(desk.project, "u1", [phone(1)], actor="test")
    assert report.exports == 2 and b"u3" in content_of(desk)
    assert phone(1)[1:].encode() not in content_of(desk)


def test_what_cannot_be_reached_is_named(desk: ExportDesk) -> None:
    """Guards against an erasure that says it is whole while another tool has the person."""
    with receiving() as receiver:
        desk.decide(["u1"])
        desk.decide(["u2"], "other")
        desk.run(desk.export(f"audience: all\nto: {{webhook: {{url: '{receiver.url}'}}}}"))
        desk.run(
            desk.export(f"audience: {{task: other}}\nto: {{webhook: {{url: '{receiver.url}'}}}}")
        )
        host = receiver.url.removesuffix("hook/secret-path")
    add_progress(
        desk.project.store,
        1,
        sent=0,
        failed=1,
        errors=[RowError(1, "care", "u1", "unknown"), RowError(2, "care", "u9", "unknown")],
    )
    report = forget(desk.project, "u1", actor="test")
    assert report.failures == [
        f"export people: the person may be among the rows of {DAY} that went to {host}…, "
        "which cannot be reached from here; have them deleted there"
    ]
    assert report.store["export_error"] == 1
    assert [one.user_id for one in errors_of(desk.project.store, 1)] == [report.name, "u9"]
    assert forget(desk.project, "u3", actor="test").failures == []


def test_files_of_a_place_that_is_named_no_more(desk: ExportDesk) -> None:
    """Guards against files that nobody remembers, and a broken exports.yml that hides them."""
    desk.decide(["u1"])
    desk.run(desk.export(FILES))
    desk.export("audience: all\nto: {files: elsewhere}")
    (failure,) = forget(desk.project, "u1", actor="test", dry_run=True).failures
    assert f"went to {desk.home}/out, which cannot be reached" in failure
    (desk.home / "exports.yml").write_text("exports: [")
    failures = forget(desk.project, "u1", actor="test", dry_run=True).failures
    assert failures[0].endswith("correct it and run the same command again")
    desk.export(FILES)
    assert forget(desk.project, "u1", actor="test").exports == 1


CHILD = """
import os, signal, sys
from usergrowth_dagster.exports import forgetting
from usergrowth_dagster.people.forget import forget
from usergrowth_dagster.project import Project
def killed(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
owner = forgetting if sys.argv[2] == "change_run" else forgetting.FilesDestination
setattr(owner, sys.argv[2], killed)
forget(Project.open(sys.argv[1]), "u1", actor="child")
"""


@pytest.mark.parametrize("moment", ["copy_version", "change_run", "replace_version"])
def test_a_killed_erasure_is_finished_by_the_next(desk: ExportDesk, moment: str) -> None:
    """Guards against a version that is lost, or a person who stays in one that nobody records."""
    desk.decide(["u1", "u2"])
    desk.run(desk.export(FILES))
    assert exit_code(CHILD, str(desk.home), moment) == -signal.SIGKILL
    assert list((desk.home / "out").rglob("manifest.json"))
    forget(desk.project, "u1", actor="test")
    folder = folder_of(desk)
    assert b"u1" not in content_of(desk) and b"u2" in content_of(desk)
    (run,) = runs_of(desk.project.store)
    assert desk.home / "out" / run.place == folder
