"""Rotation of the key that seals numbers."""

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from database_fixtures import database_url, postgres_server  # noqa: F401
from sqlalchemy import func, select
from support.dispatch_child import child_program
from support.sending import crowd, outbox, plan, ready

from usergrowth_dagster.control import audit, schema
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.dispatching import failpoints
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.people import phones, rotation
from usergrowth_dagster.messaging.people.phones import PhoneVault, UnknownKeyError, open_vault
from usergrowth_dagster.messaging.people.rotation import rotate
from usergrowth_dagster.messaging.policy.suppression import suppress
from usergrowth_dagster.settings import load_settings

NOW = datetime(2017, 12, 28, tzinfo=UTC)


class Kill(BaseException):
    """Ends a rotation where a kill would."""


@pytest.fixture(autouse=True)
def _own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(phones.ENVIRONMENT, raising=False)


def sealed_values(store: ControlStore) -> list[bytes]:
    with store.read() as connection:
        return [
            value
            for table, column in rotation.SEALED
            for value in connection.scalars(select(column).order_by(table.c.id))
            if value
        ]


def fill(home: Path, url: str, size: int) -> tuple[ControlStore, list[str]]:
    """A ledger with so many planned people, a suppression and a reply; and their numbers."""
    store, settings = ready(home, url)
    plan(store, settings, crowd(size))
    vault = open_vault(home)
    suppress(
        store, vault, phone="+9998888888888", reason="by_hand", source="test", now=NOW, channel="*"
    )
    with store.write() as connection:
        connection.execute(
            schema.reply.insert().values(
                digest=b"1",
                gateway="file",
                phone_hash=vault.digest("+9998888888888"),
                content=vault.seal("TD, 谢谢"),
                action="opt_out",
                received_time=NOW,
            )
        )
    return store, [vault.open(value) for value in sealed_values(store)]


@pytest.mark.parametrize(
    ("place", "passes"),
    [(rotation.ADDED, 0), (rotation.RECORDED, 0), (rotation.RESEALED, 1), (rotation.RESEALED, 3)],
)
def test_killed_rotation_goes_on(
    tmp_path: Path,
    database_url: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    passes: int,
) -> None:
    """A kill between two steps loses numbers, begins anew with a third key, or keeps the old one.

    A vault that was opened before it reads and writes on at every stage.
    """
    monkeypatch.setattr(rotation, "_CHUNK", 40)
    home = tmp_path / "home"
    store, numbers = fill(home, database_url, 100)
    before = (home / phones.FILE_NAME).read_bytes()
    running = Ledger(store, open_vault(home))
    left = [passes]

    def die() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Kill

    monkeypatch.setitem(failpoints.ACTIONS, place, die)
    with pytest.raises(Kill):
        rotate(store, home, "ann")
    monkeypatch.delitem(failpoints.ACTIONS, place)
    half = phones.read_ring(home / phones.FILE_NAME)
    assert len(half.secrets) == 2
    assert half.secrets[1] == before
    assert [running.vault.open(value) for value in sealed_values(store)] == numbers
    assert running.vault.seal("+9990000000001")[:4] == half.key_ids[0]
    Ledger(store, open_vault(home))
    done = rotate(store, home, "ann")
    path = home / phones.FILE_NAME
    assert phones.read_ring(path) == phones.Ring(half.hash_key, half.secrets[:1])
    assert path.stat().st_mode & 0o777 == 0o600
    assert before not in path.read_bytes()
    assert {value[:4] for value in sealed_values(store)} == {half.key_ids[0]}
    assert done.key_id == half.key_ids[0].hex()
    fresh = Ledger(store, open_vault(home))
    for vault in (running.vault, fresh.vault):
        assert [vault.open(value) for value in sealed_values(store)] == numbers
        assert vault.digest(numbers[0]) == PhoneVault.from_secret(before).digest(numbers[0])
    assert {entry.action for entry in audit.entries(store)} >= {"rotate-key"}
    assert not any(n in repr(e) for e in audit.entries(store) for n in numbers)
    again = rotate(store, home, "ann")
    assert again.key_id != done.key_id
    assert sum(again.resealed.values()) == len(numbers)
    with pytest.raises(UserError, match="not the one that the ledger was written with"):
        Ledger(store, PhoneVault.from_secret(before))
    store.close()


def test_dispatchers_go_on_beside_a_rotation(tmp_path: Path) -> None:
    """A dispatcher that was started with the old key meets new ones and drops or doubles people."""
    home = tmp_path / "home"
    url = f"sqlite:///{tmp_path / 'control.db'}"
    store, numbers = fill(home, url, 1500)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("USERGROWTH_")}
    dispatchers = [
        subprocess.Popen(
            [*child_program(), str(home), url, "-", "0"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for _ in range(3):
        rotate(store, home, "ann")
    for dispatcher in dispatchers:
        out, err = dispatcher.communicate(timeout=120)
        assert dispatcher.returncode == 0, (out, err)
    sent = [line["phone"] for line in outbox(load_settings(home))]
    assert sorted(str(phone) for phone in sent) == sorted(
        n for n in numbers if n.startswith("+9990")
    )
    store.close()


def test_key_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rotation that cannot change the environment leaves values that nobody can open."""
    home, url = tmp_path / "home", f"sqlite:///{tmp_path / 'control.db'}"
    monkeypatch.setenv(phones.ENVIRONMENT, "an old secret with spaces")
    store, numbers = fill(home, url, 10)
    old = open_vault(home)
    first = rotate(store, home, "ann")
    assert first.resealed == {}
    path = home / rotation.NEXT
    assert str(path) in first.todo
    assert path.stat().st_mode & 0o777 == 0o600
    both = path.read_text()
    assert rotate(store, home, "ann").key_id == first.key_id
    assert path.read_text() == both
    assert [old.open(value) for value in sealed_values(store)] == numbers
    monkeypatch.setenv(phones.ENVIRONMENT, both)
    second = rotate(store, home, "ann")
    assert sum(second.resealed.values()) == len(numbers)
    with pytest.raises(UnknownKeyError, match="start it again"):
        old.open(sealed_values(store)[0])
    with pytest.raises(UserError, match="rotate-key"):
        Ledger(store, old)
    monkeypatch.setenv(phones.ENVIRONMENT, path.read_text())
    assert len(path.read_text().split()) == 2
    new = Ledger(store, open_vault(home)).vault
    assert [new.open(value) for value in sealed_values(store)] == numbers
    assert new.digest(numbers[0]) == old.digest(numbers[0])
    assert not (home / phones.FILE_NAME).exists()
    for broken in ("hash=abc key=def", path.read_text() + " extra", path.read_text().split()[0]):
        monkeypatch.setenv(phones.ENVIRONMENT, broken)
        with pytest.raises(UserError, match="is not a key ring") as caught:
            open_vault(home)
        assert broken not in str(caught.value)
    store.close()


def test_damage_and_company(tmp_path: Path) -> None:
    """One damaged value stops every rotation, or two rotations at once lose a key."""
    home, url = tmp_path / "home", f"sqlite:///{tmp_path / 'control.db'}"
    store, numbers = fill(home, url, 10)
    table = schema.message
    with store.write() as connection:
        first = connection.scalar(
            select(func.min(table.c.id)).where(table.c.phone_number.is_not(None))
        )
        encrypted = connection.scalar(select(table.c.phone_number).where(table.c.id == first))
        assert encrypted is not None
        connection.execute(
            table.update().where(table.c.id == first).values(phone_number=encrypted[:-1] + b"\0\0")
        )
    assert rotate(store, home, "ann").resealed["message"] == len(numbers) - 3
    with (
        rotation.one_rotation(home),
        pytest.raises(UserError, match="another usergrowth rotate-key is at work"),
    ):
        rotate(store, home, "ann")
    store.close()
