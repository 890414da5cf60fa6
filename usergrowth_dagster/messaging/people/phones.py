"""Phone numbers at rest: encrypted, found again by a keyed hash, shown masked.

The secret is ``USERGROWTH_SECRET_KEY``, else the file ``<home>/secret.key``, made on first use with
mode 0600. Without it the ledger's numbers cannot be read: keep a copy apart from the database.
:mod:`usergrowth_dagster.messaging.people.keys` has its form, ``usergrowth rotate-key`` changes it.
"""

import hmac
import os
from pathlib import Path
from typing import TYPE_CHECKING

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.people import keys
from usergrowth_dagster.messaging.people.keys import ENVIRONMENT, FILE_NAME, Ring
from usergrowth_dagster.settings import load_settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = [
    "ENVIRONMENT",
    "FILE_NAME",
    "PhoneVault",
    "UnknownKeyError",
    "mask",
    "open_vault",
    "phone_key",
]
_NONCE = 12
_ID = 4  # bytes of a key's id


def mask(phone: str | None) -> str:
    """A number for display: the first four and last two characters.

    >>> mask("+9991234567812")
    '+999********12'
    """
    if not phone:
        return ""
    head = 4 if len(phone) > 8 else 0
    return phone[:head] + "*" * max(len(phone) - head - 2, 0) + phone[-2:]


def phone_key(phone: str) -> str:
    """The digits that tell two numbers apart, whether written with ``+``, ``00`` or neither.

    A mobile number of mainland China loses its country code, which providers there leave out in
    receipts and replies. An e-mail address is taken in lower case.

    >>> phone_key("+8610000000000"), phone_key("00999123456")
    ('10000000000', '999123456')
    """
    if "@" in phone:
        return phone.strip().lower()
    digits = phone.removeprefix("+").removeprefix("00")
    return digits[2:] if len(digits) == 13 and digits.startswith("861") else digits


class UnknownKeyError(UserError):
    """A value was sealed with a key that is not in this process's ring: no fault of the value."""


class PhoneVault:
    """Seals and opens numbers (AES-256-GCM), and hashes them (HMAC-SHA256).

    A vault of a file follows a rotation while it is in use: it looks at the file again before it
    seals when the file has changed, and before it gives a value up. It forgets no key that it has
    had, so that what was read before a rotation's end can be opened after it.

    Args:
        ring: the keys.
        path: the file that they are from, to be read again when it has changed.
        seen: what :func:`_mark` said of the file before it was read.
    """

    def __init__(self, ring: Ring, path: Path | None = None, seen: object = None) -> None:
        self._path = path
        self._seen = seen
        self._ciphers: dict[bytes, AESGCM] = {}
        self._hash_key = ring.hash_key
        self._take(ring)

    @classmethod
    def from_secret(cls, secret: bytes) -> "PhoneVault":
        """A vault for a secret of at least 16 bytes."""
        return cls(Ring.of_secret(secret))

    def _take(self, ring: Ring) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if ring.hash_key != self._hash_key:
            raise UserError(
                "the secret key was replaced by one of another ledger while this process ran; "
                "restore the copy that the ledger was written with"
            )
        for key_id, secret in zip(ring.key_ids, ring.secrets, strict=True):
            if key_id not in self._ciphers:
                self._ciphers[key_id] = AESGCM(keys.derive(secret)[:32])
        self._key_id = ring.key_ids[0]

    def refresh(self) -> None:
        """Take over what a rotation has changed since."""
        if self._path is not None and (seen := _mark(self._path)) != self._seen:
            self._take(keys.read_file(self._path))
            self._seen = seen

    @property
    def key_id(self) -> bytes:
        """What names the key that seals, in the first bytes of a sealed value."""
        return self._key_id

    @property
    def hash_id(self) -> bytes:
        """What names the key of the hashes."""
        return hmac.digest(self._hash_key, b"id", "sha256")[:_ID]

    def knows(self, key_id: bytes) -> bool:
        """Whether values that were sealed with a key can be opened."""
        if key_id not in self._ciphers:
            self.refresh()
        return key_id in self._ciphers

    def seal(self, phone: str) -> bytes:
        """Encrypted form: 4 bytes key id, 12 bytes nonce, ciphertext with its tag."""
        self.refresh()
        nonce = os.urandom(_NONCE)
        key_id = self._key_id
        return key_id + nonce + self._ciphers[key_id].encrypt(nonce, phone.encode(), key_id)

    def open(self, sealed: bytes) -> str:
        """The number.

        Raises:
            UnknownKeyError: sealed with a key that this vault has not.
            UserError: damaged.
        """
        from cryptography.exceptions import InvalidTag

        key_id, body = sealed[:_ID], sealed[_ID:]
        wrong = "a phone number in the ledger cannot be decrypted with the present secret key"
        if len(body) > _NONCE and not self.knows(key_id):
            raise UnknownKeyError(
                f"{wrong}: it was sealed with another ({key_id.hex()}); if the key was rotated, "
                f"give this process the newest {ENVIRONMENT} or {FILE_NAME} and start it again"
            )
        try:
            return self._ciphers[key_id].decrypt(body[:_NONCE], body[_NONCE:], key_id).decode()
        except (InvalidTag, ValueError, KeyError):
            raise UserError(f"{wrong}: it is damaged") from None

    def digest(self, phone: str) -> bytes:
        """Keyed hash (16 bytes, HMAC-SHA256): equal for equal numbers, useless without the key."""
        return hmac.digest(self._hash_key, phone_key(phone).encode(), "sha256")[:16]

    def user_digest(self, user_id: str) -> bytes:
        """Keyed hash (16 bytes) of a user id; never equal to that of a number."""
        return hmac.digest(self._hash_key, b"user\0" + user_id.encode(), "sha256")[:16]

    def user_pads(self) -> tuple[bytes, bytes]:
        """The two blocks of HMAC (RFC 2104), so that SQL can make :meth:`user_digest` itself.

        ``sha256(outer || sha256(inner || user_id))``, of which the digest is the first half.
        """
        block = self._hash_key.ljust(64, b"\0")
        inner, outer = (bytes(byte ^ pad for byte in block) for pad in (0x36, 0x5C))
        return inner + b"user\0", outer


def open_vault(home: Path) -> PhoneVault:
    """The vault of a home folder.

    Raises:
        UserError: the secret is too short, others may read its file, or it is gone although the
            ledger holds numbers that were sealed with it.
    """
    given = keys.from_environment()
    if given is not None:
        return PhoneVault(given)
    path = home / FILE_NAME
    if not path.exists():
        _require_nothing_sealed(home)
        keys.write_file(path, keys.new_secret().decode(), first=True)
    seen = _mark(path)
    return PhoneVault(keys.read_file(path), path, seen)


def _require_nothing_sealed(home: Path) -> None:
    """Refuse to make a new secret where the old one is needed: no number would be found again."""
    from usergrowth_dagster.messaging.people.sealed import holds_sealed

    if holds_sealed(load_settings(home)):
        raise UserError(secret_is_gone(home))


def secret_is_gone(home: Path) -> str:
    """The sentence on a secret that is missing although the ledger needs it."""
    return (
        f"{home / FILE_NAME} is gone, but the ledger holds numbers or refusals that only it can "
        f"read: restore your copy of it, or set {ENVIRONMENT}"
    )


def _mark(path: Path) -> object:
    """Changes whenever the file does."""
    held = path.stat()
    return held.st_ino, held.st_mtime_ns, held.st_size
