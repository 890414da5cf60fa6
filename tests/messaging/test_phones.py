"""Phone numbers at rest."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usergrowth_dagster.addresses.shown import mask
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.people.phones import PhoneVault, open_vault

PHONES = st.from_regex(r"\+999[0-9]{10}", fullmatch=True)
VAULT = PhoneVault.from_secret(b"0123456789abcdef")


@given(PHONES)
def test_sealed_numbers_open_again(phone: str) -> None:
    """Guards against numbers lost, shown, or equal ciphertexts that show who is who."""
    sealed = VAULT.seal(phone)
    assert VAULT.open(sealed) == phone
    assert VAULT.seal(phone) != sealed
    assert phone[1:].encode() not in sealed
    assert VAULT.digest(phone) == VAULT.digest(f"00{phone[1:5]} {phone[5:]}")
    assert mask(phone) == f"+999{'*' * 8}{phone[-2:]}"
    assert phone not in repr(VAULT)


def test_wrong_or_damaged_is_refused() -> None:
    """Guards against a wrong number from a wrong key or a flipped bit."""
    sealed = VAULT.seal("+9990000000001")
    other = PhoneVault.from_secret(b"another secret, long enough")
    assert other.digest("+9990000000001") != VAULT.digest("+9990000000001")
    for bad in (sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed[:10], b""):
        with pytest.raises(UserError, match="cannot be decrypted") as caught:
            VAULT.open(bad)
        assert "999" not in str(caught.value)
    with pytest.raises(UserError, match="cannot be decrypted"):
        other.open(sealed)


@pytest.mark.parametrize(
    ("phone", "shown"), [(None, ""), ("", ""), ("123456", "****56"), ("1", "1")]
)
def test_short_numbers_are_masked(phone: str | None, shown: str) -> None:
    """Guards against a mask that shows most of a short number."""
    assert mask(phone) == shown


def test_secret_is_made_once_and_kept_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against two first starts with two keys, and a key that others can read."""
    monkeypatch.delenv("USERGROWTH_SECRET_KEY", raising=False)
    code = "import sys, pathlib; from usergrowth_dagster.messaging.people.phones import open_vault; print(open_vault(pathlib.Path(sys.argv[1])).key_id.hex())"
    home = tmp_path / "home"
    starts = [
        subprocess.Popen([sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    keys = {start.communicate(timeout=60)[0].strip() for start in starts}
    assert keys == {open_vault(home).key_id.hex()}
    path = home / "secret.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in home.iterdir()] == ["secret.key"]
    path.chmod(0o640)
    with pytest.raises(UserError, match="chmod 600"):
        open_vault(home)
    monkeypatch.setenv("USERGROWTH_SECRET_KEY", "short")
    with pytest.raises(UserError, match="USERGROWTH_SECRET_KEY is too short"):
        open_vault(home)


def test_ledger_knows_its_key(tmp_path: Path) -> None:
    """Guards against a lost key that shows only when every message of a campaign fails."""
    store = ControlStore(f"sqlite:///{tmp_path / 'c.db'}")
    store.migrate()
    Ledger(store, VAULT)
    Ledger(store, VAULT)
    with pytest.raises(UserError, match=r"secret key .* is not the one"):
        Ledger(store, PhoneVault.from_secret(b"another secret, long enough"))
