"""Phone numbers at rest: encrypted, and found again by a keyed hash.

The secret is ``USERGROWTH_SECRET_KEY``, else the file ``<home>/secret.key``, made on first use with
mode 0600. Without it the ledger's numbers cannot be read: keep a copy apart from the database.
:mod:`usergrowth_dagster.messaging.people.keys` has its form, ``usergrowth rotate-key`` changes it.
"""

import hmac
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from usergrowth_dagster.addresses.identity import identity
from usergrowth_dagster.addresses.numbers import Number, Problem, old_keys, parse
from usergrowth_dagster.error_codes import ErrorCode
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.people import keys
from usergrowth_dagster.messaging.people.keys import ENVIRONMENT, FILE_NAME, Ring
from usergrowth_dagster.settings import load_settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = [
    "E164",
    "ENVIRONMENT",
    "FILE_NAME",
    "PhoneVault",
    "UnknownKeyError",
    "open_vault",
]
E164 = b"\2"
"""First byte of the hash of a number in E.164; those of earlier versions lack it."""

_NONCE = 12
_ID = 4  # bytes of a key's id


class UnknownKeyError(UserError):
    """A value was sealed with a key that is not in this process's ring: no fault of the value."""

    def __init__(self, sentence: str, *, code: ErrorCode = "key.unknown", hint: str = "") -> None:
        super().__init__(sentence, code=code, hint=hint)


class PhoneVault:
    """Seals and opens numbers (AES-256-GCM), and hashes them (HMAC-SHA256).

    A vault of a file follows a rotation while it is in use: it looks at the file again before it
    seals when the file has changed, and before it gives a value up. It forgets no key that it has
    had, so that what was read before a rotation's end can be opened after it.

    Args:
        ring: the keys.
        country: ISO code of the country of numbers that are written without one.
        path: the file that they are from, to be read again when it has changed.
        seen: what :func:`_file_stamp` said of the file before it was read.
    """

    def __init__(
        self,
        ring: Ring,
        country: str | None = None,
        *,
        path: Path | None = None,
        seen: object = None,
    ) -> None:
        self.country = country
        self._path = path
        self._seen = seen
        self._ciphers: dict[bytes, AESGCM] = {}
        self._hash_key = ring.hash_key
        self._take(ring)

    @classmethod
    def from_secret(cls, secret: bytes, country: str | None = None) -> "PhoneVault":
        """A vault for a secret of at least 16 bytes."""
        return cls(Ring.of_secret(secret), country)

    def _take(self, ring: Ring) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._damaged = (InvalidTag, ValueError, KeyError)
        if ring.hash_key != self._hash_key:
            raise UserError(
                "the secret key was replaced by one of another ledger while this process ran; "
                "restore the copy that the ledger was written with",
                code="key.unknown",
            )
        for key_id, secret in zip(ring.key_ids, ring.secrets, strict=True):
            if key_id not in self._ciphers:
                self._ciphers[key_id] = AESGCM(keys.derive(secret)[:32])
        self._key_id = ring.key_ids[0]

    def refresh(self) -> None:
        """Take over what a rotation has changed since."""
        if self._path is not None and (seen := _file_stamp(self._path)) != self._seen:
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
        key_id, body = sealed[:_ID], sealed[_ID:]
        wrong = "a phone number in the ledger cannot be decrypted with the present secret key"
        if len(body) > _NONCE and not self.knows(key_id):
            raise UnknownKeyError(
                f"{wrong}: it was sealed with another ({key_id.hex()}); if the key was rotated, "
                f"give this process the newest {ENVIRONMENT} or {FILE_NAME} and start it again"
            )
        try:
            return self._ciphers[key_id].decrypt(body[:_NONCE], body[_NONCE:], key_id).decode()
        except self._damaged:
            raise UserError(f"{wrong}: it is damaged", code="key.unknown") from None

    def digest(self, address: str) -> bytes:
        """Keyed hash (HMAC-SHA256): equal for equal addresses, useless without the key.

        A number in any spelling has the hash of its E.164 form: 17 bytes, the first of which says
        so. E-mail addresses have 16, in lower case. A text that is neither has the 16 bytes that
        earlier versions gave it.
        """
        form = identity(address, self.country)
        return (E164 if form.is_e164 else b"") + self._hash(form.text)

    def old_digests(self, number: Number) -> list[bytes]:
        """Hashes that earlier versions may have given a number, in whatever spelling it was."""
        return [self._hash(key) for key in sorted(old_keys(number))]

    def every_digest(self, addresses: Iterable[str]) -> set[bytes]:
        """The hashes of addresses, and those that earlier versions may have given them."""
        digests = set()
        for address in addresses:
            digests.add(self.digest(address))
            if "@" not in address and not isinstance(n := parse(address, self.country), Problem):
                digests.update(self.old_digests(n))
        return digests

    def _hash(self, text: str) -> bytes:
        return hmac.digest(self._hash_key, text.encode(), "sha256")[:16]

    def user_digest(self, user_id: str) -> bytes:
        """Keyed hash (16 bytes) of a user id; never equal to that of a number."""
        return self._hash(f"user\0{user_id}")

    def user_pads(self) -> tuple[bytes, bytes]:
        """The two blocks of HMAC (RFC 2104), so that SQL can make :meth:`user_digest` itself.

        ``sha256(outer || sha256(inner || user_id))``, of which the digest is the first half.
        """
        block = self._hash_key.ljust(64, b"\0")
        inner, outer = (bytes(byte ^ pad for byte in block) for pad in (0x36, 0x5C))
        return inner + b"user\0", outer


def open_vault(home: Path, country: str | None = None) -> PhoneVault:
    """The vault of a home folder.

    Args:
        home: the folder.
        country: ISO code of the country of numbers that are written without one.

    Raises:
        UserError: the secret is too short, others may read its file, or it is gone although the
            ledger holds numbers that were sealed with it.
    """
    given = keys.from_environment()
    if given is not None:
        return PhoneVault(given, country)
    path = home / FILE_NAME
    if not path.exists():
        _require_nothing_sealed(home)
        keys.write_file(path, keys.new_secret().decode(), first=True)
    seen = _file_stamp(path)
    return PhoneVault(keys.read_file(path), country, path=path, seen=seen)


def _require_nothing_sealed(home: Path) -> None:
    """Refuse to make a new secret where the old one is needed: no number would be found again."""
    from usergrowth_dagster.messaging.people.sealed import holds_sealed

    if holds_sealed(load_settings(home)):
        raise UserError(secret_is_gone(home), code="key.missing")


def secret_is_gone(home: Path) -> str:
    """The sentence on a secret that is missing although the ledger needs it."""
    return (
        f"{home / FILE_NAME} is gone, but the ledger holds numbers or refusals that only it can "
        f"read: restore your copy of it, or set {ENVIRONMENT}"
    )


def _file_stamp(path: Path) -> object:
    """What changes whenever the file does."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size
