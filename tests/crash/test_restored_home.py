"""A home restored from a copy that was made in the middle of sending texts nobody twice."""

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from support.patience import until
from worlds import make_world

from usergrowth_dagster.control import audit, schema
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.backup import make_backup
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.homes.restore import restore_backup
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.operations.holds import (
    close_held,
    held_messages,
    release_held,
)
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.restored import APART
from usergrowth_dagster.settings import Settings, load_settings

PEOPLE = 600
DAY = "2026-03-02"
"""Of the worlds' campaigns."""

_M = schema.message


@contextmanager
def provider(accepted: Path) -> Iterator[int]:
    """A provider that takes everything, slowly, as long as it has room; yields its port."""
    script = Path(__file__).with_name("gateway_process.py")
    command = [sys.executable, str(script), str(accepted), "0", "1", "0.03", str(room_of(accepted))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def room_of(accepted: Path) -> Path:
    """The file that says how many messages the provider takes before it lets its clients wait."""
    return accepted.with_name("room.txt")


def taken(accepted: Path) -> Counter[str]:
    """How often the provider took a message for each number."""
    return Counter(line.split("\t")[2] for line in accepted.read_text().splitlines())


def dispatcher(home: Path, url: str) -> "subprocess.Popen[str]":
    """The real command on a home."""
    return subprocess.Popen(
        [sys.executable, "-m", "usergrowth_dagster", "dispatch", "--home", str(home)],
        env={**os.environ, "USERGROWTH_DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def sending(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Settings, Path]]:
    """A home with two campaigns that are due at a gateway, and the file of what that took."""
    for name in [key for key in os.environ if key.startswith("USERGROWTH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("USERGROWTH_WEBHOOK_SECRET", "secret-of-the-restore-test")
    monkeypatch.setenv("USERGROWTH_DATABASE_URL", database_url)
    accepted = tmp_path / "accepted.txt"
    accepted.touch()
    with provider(accepted) as port:
        home = tmp_path / "home"
        address = f"http://127.0.0.1:{port}/home/hook"
        values = {"today": DAY, "gateway": "webhook", "webhook_url": address, "gateway_rate": 300.0}
        values["gateway_timeout"] = 90.0  # a call waits for room as long as the copy takes
        settings = make_home(home, values)
        make_world("two", "plain", database_url, home, PEOPLE)
        yield settings, accepted


def counted(store: ControlStore) -> dict[tuple[str, str | None], int]:
    """Messages by state and reason."""
    query = select(_M.c.state, _M.c.reason, func.count()).group_by(_M.c.state, _M.c.reason)
    with store.read() as connection:
        return {(str(state), reason): number for state, reason, number in connection.execute(query)}


def numbers(store: ControlStore, home: Path, *conditions: Any) -> set[str]:
    """Phone numbers of messages."""
    vault = open_vault(home)
    with store.read() as connection:
        return {
            vault.open(one)
            for one in connection.scalars(select(_M.c.phone_number).where(*conditions))
        }


def test_copied_in_the_middle_of_sending(
    sending: tuple[Settings, Path],
    other_database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guards against a second text to people that the copied home texted after the copy, against people
    who are forgotten without a reason, and against ids that two messages have at the provider."""
    settings, accepted = sending
    url, room = settings.database, room_of(accepted)
    room.write_text("200")
    with dispatcher(settings.home, url) as process:
        until(lambda: len(taken(accepted)) >= 100)
        manifest = make_backup(settings, tmp_path / "copy")
        at_copy = len(taken(accepted))
        room.write_text(str(at_copy + 100))
        until(lambda: len(taken(accepted)) >= at_copy + 100)
        process.send_signal(signal.SIGKILL)
    room.unlink()
    before = taken(accepted)
    assert 200 <= len(before) < PEOPLE, "the copy was not made in the middle"
    shutil.rmtree(settings.home)
    other = other_database_url
    monkeypatch.setenv("USERGROWTH_DATABASE_URL", other)

    restored = restore_backup(tmp_path / "copy", tmp_path / "again", "ann")
    settings = load_settings(tmp_path / "again")
    store = ControlStore(settings.database)
    states = counted(store)
    assert restored.held == states["in_doubt", "restored"] > 0
    assert {state for state, _ in states} <= {"accepted", "in_doubt"}, "some may go out blindly"
    assert audit.entries(store, action="restore")[0].actor == "ann"

    with dispatcher(settings.home, other) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert taken(accepted) == before, "a message of the unknown time went out by itself"
    known = _M.c.state == MessageState.ACCEPTED
    assert numbers(store, settings.home, known) == set(before)
    held = held_messages(store)
    assert sum(one.people for one in held) == PEOPLE - len(before)
    assert {one.gateway for one in held} == {"webhook"}
    assert all(one.asked == one.people for one in held)
    with store.read() as connection:
        newest = connection.scalar(select(func.max(schema.batch.c.id))) or 0
    assert newest >= APART

    ledger = Ledger(store, open_vault(settings.home))
    with pytest.raises(UserError, match="needs a note that says why"):
        release_held(ledger, settings, "two-1", "ann", " ")
    left = {one.schedule: one.people for one in held}
    unreachable = settings.model_copy(update={"webhook_url": "http://127.0.0.1:9/nobody"})
    with pytest.raises(UserError, match=r"look-up failed.*nothing of 'two-1' is released"):
        release_held(ledger, unreachable, "two-1", "ann", "I believe so")
    decided = release_held(ledger, settings, "two-1", "ann", "the provider's log lacks them")
    assert (decided.settled, decided.done.changed) == (0, left.get("two-1", 0))
    with dispatcher(settings.home, other) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert set(taken(accepted).values()) == {1}
    assert len(taken(accepted)) == len(before) + left.get("two-1", 0)
    assert close_held(store, "two-0", "ann", "too late").done.changed == left.get("two-0", 0)
    assert {state for state, _ in counted(store)} <= {"accepted", "rejected"}
    assert held_messages(store) == []
    assert manifest.revision == store.revision()
    store.close()
