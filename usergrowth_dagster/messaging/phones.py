"""Phone numbers at rest: encrypted, found again by a keyed hash, shown masked.

The secret is ``USERGROWTH_SECRET_KEY``, else the file ``<home>/secret.key``, made on first use with
mode 0600. Without it the ledger's numbers cannot be read: keep a copy apart from the database.
"""

import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from usergrowth_dagster.errors import UserError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ENVIRONMENT = "USERGROWTH_SECRET_KEY"
FILE_NAME = "secret.key"
_MIN_SECRET = 16
_NONCE = 12


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


@dataclass(frozen=True)
class PhoneVault:
    """Seals and opens numbers with keys derived from one secret (HKDF-SHA256, AES-256-GCM)."""

    key_id: bytes
    _hash_key: bytes = field(repr=False)
    _cipher: "AESGCM" = field(repr=False)

    @classmethod
    def from_secret(cls, secret: bytes) -> "PhoneVault":
        """A vault for a secret of at least 16 bytes."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        material = HKDF(SHA256(), 68, salt=None, info=b"usergrowth phones").derive(secret)
        return cls(material[64:], material[32:64], AESGCM(material[:32]))

    def seal(self, phone: str) -> bytes:
        """Encrypted form: 4 bytes key id, 12 bytes nonce, ciphertext with its tag."""
        nonce = os.urandom(_NONCE)
        return self.key_id + nonce + self._cipher.encrypt(nonce, phone.encode(), self.key_id)

    def open(self, sealed: bytes) -> str:
        """The number.

        Raises:
            UserError: sealed with another secret, or damaged.
        """
        from cryptography.exceptions import InvalidTag

        body = sealed[len(self.key_id) :]
        try:
            if sealed[: len(self.key_id)] != self.key_id:
                raise InvalidTag
            return self._cipher.decrypt(body[:_NONCE], body[_NONCE:], self.key_id).decode()
        except (InvalidTag, ValueError):
            raise UserError(
                "a phone number in the ledger cannot be decrypted with the present secret key"
            ) from None

    def digest(self, phone: str) -> bytes:
        """Keyed hash (16 bytes, HMAC-SHA256): equal for equal numbers, useless without the key."""
        return hmac.digest(self._hash_key, phone_key(phone).encode(), "sha256")[:16]

    def user_digest(self, user_id: str) -> bytes:
        """Keyed hash (16 bytes) of a user id; never equal to that of a number."""
        return hmac.digest(self._hash_key, b"user\0" + user_id.encode(), "sha256")[:16]


def open_vault(home: Path) -> PhoneVault:
    """The vault of a home folder.

    Raises:
        UserError: the secret is too short, or others may read its file.
    """
    given = os.environ.get(ENVIRONMENT)
    if given is not None:
        if len(given.encode()) < _MIN_SECRET:
            raise UserError(f"{ENVIRONMENT} is too short: use at least {_MIN_SECRET} characters")
        return PhoneVault.from_secret(given.encode())
    path = home / FILE_NAME
    if not path.exists():
        _make_secret(path)
    if path.stat().st_mode & 0o077:
        raise UserError(f"{path} can be read by others: chmod 600 {path}")
    secret = path.read_bytes().strip()
    if len(secret) < _MIN_SECRET:
        raise UserError(f"{path} is too short: restore the copy that the ledger was written with")
    return PhoneVault.from_secret(secret)


def _make_secret(path: Path) -> None:
    """Write a new secret; of two processes at once, both use the one that came first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_urlsafe(48).encode())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # fails when it exists, and shows only whole files
        except FileExistsError:
            return
    finally:
        draft.unlink()
