"""Phone numbers at rest: encrypted, and found again by a keyed hash.

The secret is ``USERGROWTH_SECRET_KEY``, else the file ``<home>/secret.key``, made on first use with
mode 0600. Without it the ledger's numbers cannot be read: keep a copy apart from the database. It
holds secrets that seal numbers and the one key that hashes them, in one of two forms:

* one secret, as a first start makes it: everything is derived from it;
* ``hash=<base64> key=<base64> key=<base64>``, as ``usergrowth rotate-key`` writes it: the key of
  the hashes, which never changes, since suppressions are found by them; then the secrets, the one
  that seals first. The second is there only while a rotation is under way.
"""

import base64
import binascii
import hmac
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, or_, select

from usergrowth_dagster.addresses.identity import identity
from usergrowth_dagster.addresses.numbers import Number, Problem, old_keys, parse
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.error_codes import ErrorCode
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.settings.places import sqlite_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ENVIRONMENT = "USERGROWTH_SECRET_KEY"
FILE_NAME = "secret.key"
MIN_SECRET = 16
"""Bytes of the shortest secret."""

_HASH, _KEY = "hash=", "key="
_SEALED = ("phone_number", "phone_hash", "user_hash", "content")
E164 = b"\2"
"""First byte of the hash of a number in E.164; those of earlier versions lack it."""

_NONCE = 12
_ID = 4  # bytes of a key's id


def derive_keys(secret: bytes) -> bytes:
    """68 bytes by HKDF-SHA256: 32 to encrypt, 32 to hash, 4 that name the secret."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), 68, salt=None, info=b"usergrowth phones").derive(secret)


@dataclass(frozen=True)
class Ring:
    """The key of the hashes and the secrets, the one that seals first."""

    hash_key: bytes = field(repr=False)
    secrets: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def of_secret(cls, secret: bytes) -> "Ring":
        """The ring that one secret stands for."""
        return cls(derive_keys(secret)[32:64], (secret,))

    @classmethod
    def parse(cls, text: bytes, where: str) -> "Ring":
        """A ring from its text.

        Raises:
            UserError: the text is too short or broken; the sentence names ``where``, no secret.
        """
        text = text.strip()
        if not text.startswith(_HASH.encode()):
            if len(text) < MIN_SECRET:
                raise UserError(
                    f"{where} is too short: use at least {MIN_SECRET} characters, or restore the "
                    "copy that the ledger was written with",
                    code="credential.invalid",
                )
            return cls.of_secret(text)
        try:
            head, *rest = text.decode("ascii").split()
            if not rest or not all(part.startswith(_KEY) for part in rest):
                raise ValueError
            hash_key = base64.b64decode(head.removeprefix(_HASH), validate=True)
            keys = tuple(base64.b64decode(p.removeprefix(_KEY), validate=True) for p in rest)
            if len(hash_key) != 32 or min(map(len, keys)) < MIN_SECRET:
                raise ValueError
        except (ValueError, binascii.Error):
            raise UserError(
                f"{where} is not a key ring (hash=… key=…, as usergrowth rotate-key writes it): "
                "restore a copy of it",
                code="credential.invalid",
            ) from None
        return cls(hash_key, keys)

    def text(self) -> str:
        """The ring on one line."""
        parts = [_HASH + base64.b64encode(self.hash_key).decode()]
        parts += [_KEY + base64.b64encode(secret).decode() for secret in self.secrets]
        return " ".join(parts)

    @cached_property
    def key_ids(self) -> tuple[bytes, ...]:
        """What names each secret in the sealed values, the one that seals first."""
        return tuple(derive_keys(secret)[64:] for secret in self.secrets)

    def with_new(self) -> "Ring":
        """The ring with a new secret that seals from now on."""
        while True:
            made = Ring(self.hash_key, (_new_secret(), *self.secrets))
            if len(set(made.key_ids)) == len(made.secrets):
                return made

    def newest_alone(self) -> "Ring":
        """The ring without all secrets but the one that seals."""
        return Ring(self.hash_key, self.secrets[:1])


def _new_secret() -> bytes:
    """A fresh secret."""
    return secrets.token_urlsafe(48).encode()


def ring_from_environment() -> Ring | None:
    """The ring of the environment, if it holds one."""
    given = os.environ.get(ENVIRONMENT)
    return None if given is None else Ring.parse(given.encode(), ENVIRONMENT)


def read_ring(path: Path) -> Ring:
    """The ring of a file.

    Raises:
        UserError: others may read it, or it holds no ring.
    """
    if path.stat().st_mode & 0o077:
        raise UserError(
            f"{path} can be read by others: chmod 600 {path}", code="credential.invalid"
        )
    return Ring.parse(path.read_bytes(), str(path))


def write_ring(path: Path, content: str, *, first: bool = False) -> None:
    """Put a whole file, readable by its owner alone, in the place of the one that is there.

    Args:
        path: the file.
        content: its one line.
        first: keep what is there already; of two processes at once, both use what came first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if not first:
            draft.replace(path)
            _sync_folder(path.parent)
            return
        try:
            os.link(draft, path)  # fails when it exists, and shows only whole files
        except FileExistsError:
            return
    finally:
        draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """The new name must be on disk before anything is sealed with what it holds."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def holds_sealed(settings: Settings) -> bool:
    """Whether the settings' database holds a sealed number or a keyed hash.

    A database that is not there yet is not made.
    """
    file = sqlite_file(settings.database)
    if file is not None and not file.exists():
        return False
    store = ControlStore(settings.database)
    try:
        with store.read() as connection:
            return sealed_rows(connection)
    finally:
        store.close()


def sealed_rows(connection: Connection) -> bool:
    """Whether any row of a database is sealed, also before its migration."""
    present = inspect(connection)
    for table in (schema.message, schema.suppression, schema.reply, schema.unread):
        if not present.has_table(table.name):
            continue
        there = {column["name"] for column in present.get_columns(table.name)}
        sealed = [table.c[name] for name in _SEALED if name in there and name in table.c]
        wanted = select(1).select_from(table).where(or_(*(c.is_not(None) for c in sealed)))
        if connection.execute(wanted.limit(1)).first():
            return True
    return False


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
                self._ciphers[key_id] = AESGCM(derive_keys(secret)[:32])
        self._key_id = ring.key_ids[0]

    def refresh(self) -> None:
        """Take over what a rotation has changed since."""
        if self._path is not None and (seen := _file_stamp(self._path)) != self._seen:
            self._take(read_ring(self._path))
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

    def key_for(self, purpose: bytes) -> bytes:
        """A key of 32 bytes for another purpose; a rotation keeps it, as it keeps the hashes."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

        return HKDFExpand(SHA256(), 32, info=b"usergrowth " + purpose).derive(self._hash_key)

    def user_digest(self, user_id: str) -> bytes:
        """Keyed hash (16 bytes) of a user id; never equal to that of a number."""
        return self._hash(f"user\0{user_id}")

    def pads(self, before: bytes = b"") -> tuple[bytes, bytes]:
        """The two blocks of HMAC (RFC 2104), so that SQL can make hashes itself.

        The hash is the first half of ``sha256(outer || sha256(inner || text))``.

        Args:
            before: what stands before every text.
        """
        block = self._hash_key.ljust(64, b"\0")
        inner, outer = (bytes(byte ^ pad for byte in block) for pad in (0x36, 0x5C))
        return inner + before, outer

    def user_pads(self) -> tuple[bytes, bytes]:
        """The blocks by which SQL makes :meth:`user_digest` itself."""
        return self.pads(b"user\0")


def open_vault(home: Path, country: str | None = None) -> PhoneVault:
    """The vault of a home folder.

    Args:
        home: the folder.
        country: ISO code of the country of numbers that are written without one.

    Raises:
        UserError: the secret is too short, others may read its file, or it is gone although the
            ledger holds numbers that were sealed with it.
    """
    given = ring_from_environment()
    if given is not None:
        return PhoneVault(given, country)
    path = home / FILE_NAME
    if not path.exists():
        _require_nothing_sealed(home)
        write_ring(path, _new_secret().decode(), first=True)
    seen = _file_stamp(path)
    return PhoneVault(read_ring(path), country, path=path, seen=seen)


def _require_nothing_sealed(home: Path) -> None:
    """Refuse to make a new secret where the old one is needed: no number would be found again."""

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
