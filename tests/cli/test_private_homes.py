"""Who may read a home, when its secret may be made, and where outputs may lie."""

import os
import stat
from pathlib import Path

import pytest
from chain_world import World, campaign, copy_home, ledger

from usergrowth_dagster.audience.output import check_output_folder
from usergrowth_dagster.control.campaign import LANDING_FOLDERS, load_campaign
from usergrowth_dagster.data.contracts import CONTRACTS
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_new_home_is_for_its_owner_alone(umask: int, tmp_path: Path, here: None) -> None:
    """With the usual umask everybody on the machine reads the ledger and the secret."""
    home = tmp_path / "home"
    (home / "landing").mkdir(parents=True)  # files may be there before the home is made
    before = os.umask(umask)
    try:
        project = Project(make_home(home, {}))
        open_vault(home)
        project.state.write_bytes("outputs/x.json", b"")
        project.store.close()
    finally:
        os.umask(before)
    assert mode(home) == 0o700
    files = [path for path in home.rglob("*") if path.is_file()]
    assert {"control.db", "secret.key", "dagster.yaml", "x.json"} <= {path.name for path in files}
    assert [path for path in files if mode(path) & 0o077] == []


def test_what_the_chain_writes_is_for_its_owner_alone(world: World) -> None:
    """Phone numbers in a table, an output or a log that everybody reads."""
    by_hand = {"usergrowth.toml", "_SUCCESS", "population.csv"}
    written = [
        path
        for path in world.decided.rglob("*")
        if path.is_file() and path.name not in by_hand and path.parent.name != "campaigns"
    ]
    assert any("outbox" in path.parts for path in written)
    assert any("population_output" in path.parts for path in written)
    assert [path for path in written if mode(path) & 0o077] == []


def test_a_lost_secret_is_never_made_anew(world: World, tmp_path: Path) -> None:
    """A new secret finds no suppression: whoever refused is texted again."""
    home = copy_home(world.decided, tmp_path / "home")
    assert ledger(home)
    (home / "secret.key").unlink()
    with pytest.raises(UserError, match=r"secret\.key is gone.*restore your copy"):
        open_vault(home)
    assert not (home / "secret.key").exists()
    empty = make_home(tmp_path / "new", {})
    Project(empty).store.close()
    open_vault(empty.home)  # nothing sealed: a first secret
    assert (empty.home / "secret.key").exists()


def test_a_secret_is_made_without_a_database(tmp_path: Path, here: None) -> None:
    """Looking for sealed numbers must not make an empty database."""
    open_vault(tmp_path / "home")
    assert not (tmp_path / "home" / "control.db").exists()


@pytest.mark.parametrize(
    "folder", ["user", "Behavior/ds=20240101", "population/spring", "item/x/y"]
)
def test_outputs_do_not_lie_among_landing_files(folder: str, tmp_path: Path) -> None:
    """An output among landing files is landed as data, or decided as the next population."""
    file = tmp_path / "campaign.yaml"
    file.write_text(campaign("spring", output=folder), encoding="utf-8")
    with pytest.raises(UserError, match=r"output.*lies among the landing files"):
        load_campaign(file)
    storage = Storage(str(tmp_path))
    with pytest.raises(UserError, match="lies among the landing files"):
        check_output_folder(storage, folder, "spring", state=storage)
    check_output_folder(storage, "population_output/spring", "spring", state=storage)
    file.write_text(campaign("spring", output="users/spring"), encoding="utf-8")
    load_campaign(file)


def test_the_landing_folders_are_those_of_the_contracts() -> None:
    """A new landing table that outputs may lie in."""
    assert set(LANDING_FOLDERS) == set(CONTRACTS)


def test_settings_are_read_without_a_home(tmp_path: Path, here: None) -> None:
    """Asking for settings must not make a folder."""
    load_settings(tmp_path / "none")
    assert not (tmp_path / "none").exists()
