"""A copy of a whole home, what it restores to, and copies that cannot be restored."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from chain_world import (
    D,
    World,
    cli,
    copy_home,
    errors,
    ledger,
    outbox,
    output,
    rows,
    same_rows,
    succeeded,
    warehouse,
)

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.backup import make_backup
from usergrowth_dagster.homes.doctor import state_faults
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.homes.manifest import read_document, read_manifest, write_document
from usergrowth_dagster.homes.restore import restore_backup
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings

TABLES = ["raw_behavior", "user_day", "user_features", "population", "scores", "decisions"]


@pytest.fixture(scope="module")
def copied(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the decided home, which is gone since."""
    folder = tmp_path_factory.mktemp("copied")
    home = copy_home(world.decided, folder / "home")
    (home / "credentials.toml").write_text('webhook_secret = "a-secret-that-nobody-may-see"\n')
    (home / "credentials.toml").chmod(0o600)
    said = succeeded(cli(home, "backup", str(folder / "copy")))
    assert f"{folder / 'copy/secrets'} holds secret.key and credentials.toml" in said
    shutil.rmtree(home)
    return folder / "copy"


def test_a_restored_home_is_the_home(world: World, copied: Path, tmp_path: Path) -> None:
    """Guards against a part of a home that no copy has: rows, versions, models, history, texts;
    and against files of it that others can read."""
    home = tmp_path / "again"
    done = cli(tmp_path / "x", "restore", str(copied), "--home", str(home))
    assert f"Made {home} from the copy of" in succeeded(done)
    assert "refusals, replies and reports that came after" in done.stderr
    assert "people who were forgotten after" in done.stderr
    same_rows(world.decided, home, TABLES)
    assert {t: warehouse(home).version(t) for t in TABLES} == {
        t: warehouse(world.decided).version(t) for t in TABLES
    }
    assert ledger(home) == ledger(world.decided)
    assert outbox(home) == outbox(world.decided)
    assert output(home, "care") == output(world.decided, "care")
    assert "equal; 500 rows replayed" in succeeded(cli(home, "replay", "care"))  # loads the models
    assert state_faults(Project(load_settings(home))) == {}
    succeeded(cli(home, "run", "--date", str(D)))
    assert ledger(home) == ledger(world.decided)
    assert len(rows(home, "decisions")) == len(rows(world.decided, "decisions"))
    for root in (copied, home):
        for path in [root, *root.rglob("*")]:
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


@pytest.fixture
def small(tmp_path: Path, here: None) -> tuple[Path, Path]:
    """A home with a key and a landing file, and a copy of it."""
    home, copy = tmp_path / "home", tmp_path / "copy"
    settings = make_home(home, {"timezone": "Asia/Shanghai"})
    open_vault(home)
    (home / "landing/user/part.csv").write_text("user_id\nu1\n")
    make_backup(settings, copy)
    return home, copy


def truncated(copy: Path) -> Path:
    path = copy / "home/landing/user/part.csv"
    os.truncate(path, path.stat().st_size - 1)
    return path


def altered(copy: Path) -> Path:
    path = copy / "home/control.db"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


def missing(copy: Path) -> Path:
    path = copy / "home/usergrowth.toml"
    path.unlink()
    return path


def interrupted(copy: Path) -> Path:
    (copy / "manifest.json").unlink()
    return copy


def torn_manifest(copy: Path) -> Path:
    path = copy / "manifest.json"
    os.truncate(path, path.stat().st_size // 2)
    return path


def newer_form(copy: Path) -> Path:
    path = copy / "manifest.json"
    write_document(path, {**read_document(path), "format": 99})
    return path


def newer_database(copy: Path) -> Path:
    path = copy / "manifest.json"
    write_document(path, {**read_document(path), "revision": "9999"})
    return copy


def altered_secret(copy: Path) -> Path:
    path = copy / "secrets/secret.key"
    path.write_text(path.read_text()[::-1])
    return path


def no_secrets(copy: Path) -> Path:
    shutil.rmtree(copy / "secrets")
    return copy / "secrets"


def secrets_of_another(copy: Path) -> Path:
    path = copy / "secrets/secrets.json"
    write_document(path, {**read_document(path), "id": "another"})
    return path.parent


@pytest.mark.parametrize(
    ("damage", "code", "sentence"),
    [
        (truncated, "backup.damaged", "bytes, and"),
        (altered, "backup.damaged", "is damaged: its SHA-256"),
        (missing, "backup.damaged", "is missing from the copy"),
        (interrupted, "backup.damaged", "is no whole copy"),
        (torn_manifest, "backup.damaged", "is damaged: its text"),
        (newer_form, "backup.newer", "in form 99"),
        (newer_database, "backup.newer", "migration 9999"),
        (altered_secret, "backup.damaged", "is damaged: its SHA-256"),
        (no_secrets, "key.missing", "has no secrets.json"),
        (secrets_of_another, "key.unknown", "has the secrets of another copy"),
    ],
)
def test_a_bad_copy_is_refused(
    small: tuple[Path, Path],
    tmp_path: Path,
    damage: Callable[[Path], Path],
    code: str,
    sentence: str,
) -> None:
    """Guards against a home that is made of a damaged copy, and a refusal that leaves half of one
    behind."""
    home, copy = small
    path = damage(copy)
    with pytest.raises(UserError) as caught:
        restore_backup(copy, tmp_path / "again", "ann")
    assert caught.value.code == code
    assert str(path) in str(caught.value) and sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == [copy, home]


def test_nothing_is_overwritten(small: tuple[Path, Path], tmp_path: Path) -> None:
    """Guards against a copy over a copy, a restore over a home, and a copy within what is copied."""
    home, copy = small
    before = (home / "control.db").read_bytes()
    (said,) = errors(cli(home, "restore", str(copy), "--home", str(home)))
    assert "is not empty: a copy is restored into a new home" in said
    assert (home / "control.db").read_bytes() == before
    settings = load_settings(home)
    with pytest.raises(UserError, match="is not an empty folder"):
        make_backup(settings, copy)
    for inside in (home / "copy", home / "landing/user/copy"):
        with pytest.raises(UserError, match="which is copied"):
            make_backup(settings, inside)
        assert not inside.exists()


def test_parts_outside_the_home(
    world: World, tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against tables and files beside the home that no copy has, and a restore into the
    places of the home that was copied."""
    home = copy_home(world.decided, tmp_path / "home")
    for name in ("storage", "landing"):
        place = (home / name).rename(tmp_path / name)
        monkeypatch.setenv(f"USERGROWTH_{name.upper()}", str(place))
    keys, copy, again = (tmp_path / name for name in ("keys", "copy", "again"))
    manifest = make_backup(load_settings(home), copy, secrets_folder=keys)
    assert manifest == read_manifest(copy)
    assert not (copy / "secrets").exists()
    assert [path.name for path in sorted(keys.iterdir())] == ["secret.key", "secrets.json"]
    with pytest.raises(UserError, match=r"setting 'storage': .* is not an empty folder"):
        restore_backup(copy, again, "ann", secrets_folder=keys)
    assert not again.exists()
    assert (tmp_path / "storage/tables/decisions").exists()
    for name in ("storage", "landing"):
        monkeypatch.setenv(f"USERGROWTH_{name.upper()}", str(tmp_path / f"{name}-2"))
    restore_backup(copy, again, "ann", secrets_folder=keys)
    project = Project(load_settings(again))
    assert {name: project.warehouse.version(name) for name in manifest.tables} == manifest.tables
    assert (tmp_path / "landing-2/population/care/population.csv").exists()


def test_what_is_made_again_is_not_copied(small: tuple[Path, Path], tmp_path: Path) -> None:
    """Guards against a copy that is as large as the tables in an object store."""
    home, _ = small
    for folder in ("cache", "segment_leaves"):
        (home / folder).mkdir(exist_ok=True)
        (home / folder / "some.parquet").write_bytes(b"made again")
    made = make_backup(load_settings(home), tmp_path / "another")
    assert made.files and not any(name.endswith("some.parquet") for name in made.files)


def test_models_elsewhere_are_named(small: tuple[Path, Path], tmp_path: Path) -> None:
    """Guards against a copy whose models are gone with the store, without a word when it is made."""
    home, _ = small
    settings = load_settings(home, mlflow_artifacts="s3://growth/models")
    left_out = make_backup(settings, tmp_path / "another").left_out
    assert [one for one in left_out if "models' files lie in s3://growth/models" in one]
    assert not make_backup(load_settings(home), tmp_path / "third").left_out
