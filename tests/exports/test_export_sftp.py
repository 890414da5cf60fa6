"""Exports to an SFTP folder: whole or not seen, on a server that is known, and gone when expired."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pyarrow.parquet as pq
import pytest
from support.export_desk import HOSTILE, ExportDesk
from support.processes import exit_code
from support.sftp_server import PASSWORD, Sftp, running_sftp

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.exports.expire import expire
from usergrowth_dagster.exports.runs import change_run, runs_of


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sftp]:
    monkeypatch.setenv("SFTP_PASSWORD", PASSWORD)
    with running_sftp(tmp_path / "served") as made:
        yield made


def keys(server: Sftp, more: str = "", **changed: str) -> str:
    given = {
        "host": "127.0.0.1",
        "port": str(server.port),
        "user": "growth",
        "path": "/in",
        "password_env": "SFTP_PASSWORD",
        "host_key": server.host_key,
        **changed,
    }
    inner = ", ".join(
        f"{name}: '{value}'" if name != "port" else f"port: {value}"
        for name, value in given.items()
        if value
    )
    return f"audience: all\nto: {{sftp: {{{inner}}}}}\n{more}"


def versions(server: Sftp) -> list[Path]:
    return sorted(path.parent for path in server.root.rglob("manifest.json"))


def users(folder: Path) -> list[str]:
    manifest = json.loads((folder / "manifest.json").read_text())
    tables = [pq.read_table(folder / file["name"]) for file in manifest["files"]]
    return [name for table in tables for name in table.column("user_id").to_pylist()]


def test_files_are_uploaded_once(desk: ExportDesk, server: Sftp) -> None:
    """Guards against ids that change on the way, a second copy, and files that stay for ever."""
    desk.decide(HOSTILE)
    export = desk.export(keys(server, "file_rows: 9\nexpires_after_days: 1"))
    done = desk.run(export)
    (folder,) = versions(server)
    assert users(folder) == HOSTILE and done.sent == len(HOSTILE)
    assert folder == server.root / "in" / done.place
    assert not [path for path in server.root.rglob("*") if path.name.endswith(".tmp")]
    latest = json.loads((server.root / "in/people/latest.json").read_text())
    assert server.root / "in/people" / latest["folder"] == folder
    assert "growth" not in done.destination and PASSWORD not in repr(done)
    assert desk.run(export).state == "unchanged" and len(versions(server)) == 1
    (folder / "part-00001.parquet").unlink()
    assert desk.run(export).state == "sent" and len(versions(server)) == 2
    desk.decide(["u1"])
    assert desk.run(export).state == "sent" and users(versions(server)[-1]) == ["u1"]
    newest = runs_of(desk.project.store)[-1]
    change_run(desk.project.store, newest.id, expires_time=newest.started_time)
    (removed,) = expire(desk.project, (export,), actor="test").removed
    assert removed.rows == 1 and len(versions(server)) == 2
    assert not (server.root / "in/people/latest.json").exists()


def test_an_unknown_host_is_refused_with_its_fingerprint(desk: ExportDesk, server: Sftp) -> None:
    """Guards against people handed to whoever answers, and a password said to a stranger."""
    desk.decide(["u1"])
    stranger = "SHA256:" + "A" * 43
    with pytest.raises(UserError) as refused:
        desk.run(desk.export(keys(server, host_key=stranger)))
    assert refused.value.code == "export.refused"
    assert str(refused.value) == (
        f"export people: to.sftp: sftp://127.0.0.1:{server.port}/in: its host key ssh-ed25519 "
        f"{server.host_key} is not known; if it is the right one, write host_key: {server.host_key}"
    )
    hosts = desk.home / "hosts"
    hosts.write_text("")
    export = desk.export(keys(server, host_key="", known_hosts="hosts"))
    with pytest.raises(UserError, match="is not known; if it is the right one"):
        desk.run(export)
    assert not list(server.root.rglob("*"))
    hosts.write_text(server.known_hosts)
    assert desk.run(export).sent == 1


def test_a_key_lets_in(desk: ExportDesk, tmp_path: Path) -> None:
    """Guards against a key that others may read, and one that is asked for and not used."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    with running_sftp(tmp_path / "served", allowed=key.export_public_key().decode()) as server:
        desk.decide(["u1"])
        export = desk.export(keys(server, password_env="", key_file="id"))
        with pytest.raises(UserError, match=r"key_file: .*/id cannot be read: No such file"):
            desk.run(export)
        path = desk.home / "id"
        path.write_bytes(key.export_private_key())
        path.chmod(0o644)
        with pytest.raises(UserError, match=r"others may read .*/id; run chmod 600 on it"):
            desk.run(export)
        path.chmod(0o600)
        assert desk.run(export).sent == 1 and users(versions(server)[0]) == ["u1"]


def test_a_server_that_is_gone_is_one_sentence(
    desk: ExportDesk, server: Sftp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a traceback, a password on show, and a folder that nobody may write."""
    desk.decide(["u1"])
    with pytest.raises(
        UserError, match=r"^export people: to\.sftp: sftp://127\.0\.0\.1:9/in: "
    ) as gone:
        desk.run(desk.export(keys(server, port="9")))
    assert gone.value.code == "export.unreachable" and "\n" not in str(gone.value)
    monkeypatch.setenv("SFTP_PASSWORD", "wrong password")
    with pytest.raises(UserError, match="the server does not let growth in") as gone:
        desk.run(desk.export(keys(server)))
    assert "wrong password" not in str(gone.value)
    monkeypatch.setenv("SFTP_PASSWORD", PASSWORD)
    (server.root / "in").write_text("a file")
    with pytest.raises(UserError, match=r"^export people: to\.sftp: ") as gone:
        desk.run(desk.export(keys(server)))
    assert gone.value.code == "export.unreachable"
    for wrong, sentence in (
        ({"host_key": ""}, "give host_key or known_hosts"),
        ({"password_env": ""}, "give key_file, password_env"),
    ):
        with pytest.raises(UserError, match=sentence):
            desk.export(keys(server, **wrong))


CHILD = """
import os, signal, sys
from datetime import date
from usergrowth_dagster.exports.destinations.sftp import SftpDestination
from usergrowth_dagster.exports.run import exports_of, run_export
from usergrowth_dagster.project import Project
rename, left = SftpDestination._rename, [int(sys.argv[2])]
async def counted(self, sftp, aside, final):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    await rename(self, sftp, aside, final)
SftpDestination._rename = counted
project = Project.open(sys.argv[1])
(export,) = exports_of(project)
run_export(project, export, date(2024, 3, 4), actor="child")
"""


@pytest.mark.parametrize("renames", range(4))
def test_a_killed_upload_is_never_half_seen(desk: ExportDesk, server: Sftp, renames: int) -> None:
    """Guards against a reader that takes a part for the whole, and people who go out twice.

    The renames are those of two files, the manifest, and latest.json.
    """
    desk.decide(["u1", "u2"])
    export = desk.export(keys(server, "file_rows: 1"))
    assert exit_code(CHILD, str(desk.home), str(renames)) == -signal.SIGKILL
    assert len(versions(server)) == (1 if renames == 3 else 0)
    for folder in versions(server):
        assert users(folder) == ["u1", "u2"]
    assert desk.run(export).state == "sent"
    (folder,) = versions(server)
    assert users(folder) == ["u1", "u2"]
    assert list(folder.parent.iterdir()) == [folder]
    latest = json.loads((server.root / "in/people/latest.json").read_text())
    assert server.root / "in/people" / latest["folder"] == folder


def test_a_file_that_arrives_cut_gets_no_manifest(
    desk: ExportDesk, server: Sftp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a full disk of the server that looks like a smaller audience."""
    desk.decide(["u1"])
    real = asyncssh.SFTPClient.put

    async def cut(self: asyncssh.SFTPClient, source: str, target: str) -> None:
        await real(self, source, target)
        await self.truncate(target, 10)

    monkeypatch.setattr(asyncssh.SFTPClient, "put", cut)
    with pytest.raises(
        UserError, match=r"has 10 of [0-9]+ bytes of /in/people/.*; no manifest was"
    ) as refused:
        desk.run(desk.export(keys(server)))
    assert refused.value.code == "export.incomplete" and versions(server) == []
