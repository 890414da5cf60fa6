"""Exports to an object store: the same as to a folder, over S3's protocol."""

import json
import signal
from collections.abc import Iterator
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
from support.export_desk import HOSTILE, ExportDesk
from support.processes import exit_code
from support.s3_server import running_s3

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.exports.expire import expire
from usergrowth_dagster.exports.runs import change_run, runs_of

KEYS = "audience: all\nto: {files: s3://growth/audiences}"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The file system of a server with the bucket ``growth``."""
    with running_s3(monkeypatch, "growth"):
        yield fsspec.filesystem("s3", use_listings_cache=False)


def manifests(store: Any) -> list[str]:
    return sorted(path for path in store.find("growth") if path.endswith("/manifest.json"))


def users(store: Any, manifest: str) -> list[str]:
    """The user ids of the files that a manifest names."""
    folder, names = manifest.rpartition("/")[0], []
    for file in json.loads(store.cat_file(manifest))["files"]:
        with store.open(f"{folder}/{file['name']}") as handle:
            names += pq.read_table(handle).column("user_id").to_pylist()
    return names


def test_a_version_is_whole_and_not_written_twice(desk: ExportDesk, store: Any) -> None:
    """Guards against ids that change on the way, and a second copy of unchanged people."""
    desk.decide(HOSTILE)
    export = desk.export(f"{KEYS}\nfile_rows: 10\nexpires_after_days: 1")
    done = desk.run(export)
    (manifest,) = manifests(store)
    assert users(store, manifest) == HOSTILE
    assert done.sentence.count("s3://growth/audiences/people/2024-03-04/") == 1
    assert desk.run(export).state == "unchanged" and len(manifests(store)) == 1
    store.rm(f"{manifest.rpartition('/')[0]}/part-00001.parquet")
    assert desk.run(export).state == "sent" and len(manifests(store)) == 2
    newest = runs_of(desk.project.store)[-1]
    change_run(desk.project.store, newest.id, expires_time=newest.started_time)
    (removed,) = expire(desk.project, (export,), actor="test").removed
    assert removed.rows == len(HOSTILE) and manifests(store) == [manifest]


CHILD = """
import os, signal, sys
from datetime import date
from usergrowth_dagster.exports.destinations import files
from usergrowth_dagster.exports.run import exports_of, run_export
from usergrowth_dagster.project import Project
def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)
files.check_version = killed
project = Project.open(sys.argv[1])
(export,) = exports_of(project)
run_export(project, export, date(2024, 3, 4), actor="child")
"""


def test_files_without_a_manifest_are_removed_by_the_next_run(desk: ExportDesk, store: Any) -> None:
    """Guards against people left in a bucket by a process that was killed."""
    desk.decide(["u1"])
    export = desk.export(KEYS)
    assert exit_code(CHILD, str(desk.home)) == -signal.SIGKILL
    left = [path for path in store.find("growth") if "part-" in path]
    assert len(left) == 1 and manifests(store) == []
    assert desk.run(export).state == "sent"
    (manifest,) = manifests(store)
    assert users(store, manifest) == ["u1"]
    assert [path for path in store.find("growth") if "part-" in path] != left
    assert len(store.find("growth")) == 3  # a file, its manifest, latest.json


def test_a_store_that_is_gone_is_one_sentence(
    desk: ExportDesk, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a traceback of the client, with the key in it."""
    desk.decide(["u1"])
    with pytest.raises(
        UserError, match=r"^export people: to\.files: s3://nowhere/x cannot be "
    ) as gone:
        desk.run(desk.export("audience: all\nto: {files: s3://nowhere/x}"))
    assert gone.value.code == "export.unreachable"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(UserError, match="cannot be") as gone:
        desk.run(desk.export(KEYS))
    assert gone.value.code == "export.unreachable" and "\n" not in str(gone.value)
    assert "test-secret" not in str(gone.value)


def test_a_key_in_the_url_is_refused(desk: ExportDesk) -> None:
    """Guards against a secret in a file that people share, and its repetition in an error."""
    with pytest.raises(
        UserError, match=r"exports\.0\.to\.files: a key never stands here"
    ) as refused:
        desk.export("audience: all\nto: {files: 's3://key:secret@growth/x'}")
    assert refused.value.code == "export.invalid" and "secret" not in str(refused.value)
