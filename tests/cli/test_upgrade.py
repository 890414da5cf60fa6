"""A home of an earlier version, and an earlier version on a newer home."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from chain_world import D, World, cli, copy_home, errors, ledger, outbox, succeeded
from database_fixtures import create_database
from sqlalchemy import MetaData, insert, select, text

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.store import HEAD, ControlStore, upgrade, utc_now
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.backup import make_backup
from usergrowth_dagster.homes.restore import restore_backup
from usergrowth_dagster.settings import load_settings


def aged(home: Path, revision: str) -> None:
    """Give a home the control database that a version of a revision would have made of its work."""
    path, newer = home / "control.db", home / "newer.db"
    path.rename(newer)
    old, new = (ControlStore(f"sqlite:///{one}") for one in (path, newer))
    with old.write(alone=True) as connection:
        upgrade(connection, revision)
    tables, source = MetaData(), MetaData()
    tables.reflect(old.engine)
    source.reflect(new.engine)
    with old.write() as connection, new.read() as reading:
        for table in tables.sorted_tables:
            if table.name == "alembic_version":
                continue
            connection.execute(table.delete())
            shared = [column.name for column in table.c]
            rows = reading.execute(select(*(source.tables[table.name].c[one] for one in shared)))
            for row in rows.mappings():
                connection.execute(insert(table).values(dict(row)))
    assert old.revision() == revision
    for store in (old, new):
        store.close()
    newer.unlink()


@pytest.mark.parametrize("revision", ["0002", "0006", "0009"])
def test_a_home_of_before_goes_on(world: World, tmp_path: Path, revision: str) -> None:
    """Guards against a migration that loses messages, sends them again, or needs a person; and
    against a copy of the old home that the new version cannot restore."""
    home = copy_home(world.decided, tmp_path / "home")
    before, sent = ledger(home), outbox(home)
    aged(home, revision)
    copy = tmp_path / "old.db"
    copy.write_bytes((home / "control.db").read_bytes())
    store = ControlStore(f"sqlite:///{home / 'control.db'}")
    store.migrate()
    assert store.revision() == HEAD
    with store.read() as connection:
        assert connection.execute(text("pragma integrity_check")).scalar() == "ok"
        assert connection.execute(text("pragma foreign_key_check")).all() == []
    store.close()
    assert ledger(home) == before
    if revision == "0002":  # the oldest stands for the others, whose chain is part of its own
        (home / "control.db").write_bytes(copy.read_bytes())
        succeeded(cli(home, "run", "--date", str(D)))
        assert (ledger(home), outbox(home)) == (before, sent)


def test_an_older_version_leaves_a_newer_home_alone(world: World, tmp_path: Path) -> None:
    """Guards against an old program that writes to what it does not know, or fails with a
    traceback."""
    home = copy_home(world.decided, tmp_path / "home")
    with closing(sqlite3.connect(home / "control.db")) as connection, connection:
        connection.execute("update alembic_version set version_num = '9999'")
        connection.execute("alter table message add column of_a_later_version integer")
    before = (home / "control.db").read_bytes()
    tables = sorted(path.name for path in (home / "storage/tables").rglob("*.json"))
    sentence = f"was made by a newer version of the product (migration 9999, this one knows {HEAD})"
    for command in (("dispatch",), ("run", "--date", str(D)), ("backup", str(tmp_path / "copy"))):
        (said,) = errors(cli(home, *command))
        assert sentence in said, command
    assert (home / "control.db").read_bytes() == before
    assert sorted(path.name for path in (home / "storage/tables").rglob("*.json")) == tables
    assert not (tmp_path / "copy/manifest.json").exists()


@pytest.mark.postgres
def test_a_copy_of_the_version_before(
    postgres_server: str, tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a copy that upgrades what it copies, which the old version then refuses, and a
    copy of an old database that nothing can be made of."""
    home, urls = tmp_path / "home", [create_database(postgres_server) for _ in range(2)]
    home.mkdir()
    monkeypatch.setenv("USERGROWTH_DATABASE_URL", urls[0])
    old = ControlStore(urls[0])
    campaign = schema.campaign
    times = {"created_time": utc_now(), "updated_time": utc_now()}
    with old.write(alone=True) as connection:
        upgrade(connection, "0009")
        row = {"name": "spring", "remark": "it's \t\\N 春\n", "spec": {"a": [1]}, "spec_hash": "x"}
        connection.execute(insert(campaign).values(**row, **times))
    assert make_backup(load_settings(home), tmp_path / "copy").revision == "0009"
    assert old.revision() == "0009"
    monkeypatch.setenv("USERGROWTH_DATABASE_URL", urls[1])
    restore_backup(tmp_path / "copy", tmp_path / "again", "ann")
    new = ControlStore(urls[1])
    assert new.revision() == HEAD
    with new.write() as connection:
        (kept,) = connection.execute(select(campaign)).mappings()
        assert {name: kept[name] for name in (*row, *times)} == row | times
        made = connection.execute(insert(campaign).values({**row, **times, "name": "next"}))
        assert made.inserted_primary_key[0] > kept["id"]
    for store in (old, new):
        store.close()
    with pytest.raises(UserError, match="is not empty"):
        restore_backup(tmp_path / "copy", tmp_path / "third", "ann")
