"""The key ring: secrets that seal numbers, and the one key that hashes them.

It is the text of ``USERGROWTH_SECRET_KEY``, else of the file ``<home>/secret.key``. Two forms:

* one secret, as a first start makes it: everything is derived from it;
* ``hash=<base64> key=<base64> key=<base64>``, as ``usergrowth rotate-key`` writes it: the key of
  the hashes, which never changes, since suppressions are found by them; then the secrets, the one
  that seals first. The second is there only while a rotation is under way.
"""

import base64
import binascii
import os
import secrets
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from usergrowth_dagster.errors import UserError

ENVIRONMENT = "USERGROWTH_SECRET_KEY"
FILE_NAME = "secret.key"
MIN_SECRET = 16
"""Bytes of the shortest secret."""

_HASH, _KEY = "hash=", "key="


def derive(secret: bytes) -> bytes:
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
        return cls(derive(secret)[32:64], (secret,))

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
        return tuple(derive(secret)[64:] for secret in self.secrets)

    def with_new(self) -> "Ring":
        """The ring with a new secret that seals from now on."""
        while True:
            made = Ring(self.hash_key, (new_secret(), *self.secrets))
            if len(set(made.key_ids)) == len(made.secrets):
                return made

    def newest_alone(self) -> "Ring":
        """The ring without all secrets but the one that seals."""
        return Ring(self.hash_key, self.secrets[:1])


def new_secret() -> bytes:
    """A fresh secret."""
    return secrets.token_urlsafe(48).encode()


def from_environment() -> Ring | None:
    """The ring of the environment, if it holds one."""
    given = os.environ.get(ENVIRONMENT)
    return None if given is None else Ring.parse(given.encode(), ENVIRONMENT)


def read_file(path: Path) -> Ring:
    """The ring of a file.

    Raises:
        UserError: others may read it, or it holds no ring.
    """
    if path.stat().st_mode & 0o077:
        raise UserError(
            f"{path} can be read by others: chmod 600 {path}", code="credential.invalid"
        )
    return Ring.parse(path.read_bytes(), str(path))


def write_file(path: Path, content: str, *, first: bool = False) -> None:
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
