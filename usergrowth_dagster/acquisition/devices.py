"""Ids of devices as exchanges send them: the MD5 of each, by kind.

An exchange hashes ``lower(md5(UPPER(IDFA)))`` and ``lower(md5(lower(IMEI)))``; every other id is
hashed as it is. A key is the first 64 bits of the hash: among ten million keys, an id that is none
of them meets one by chance once in 10**12 requests.
"""

import hashlib
import re
from typing import Literal, NamedTuple, get_args

Kind = Literal["idfa", "caid", "oaid", "imei", "android_id", "mac"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The kinds of ids, those that stand for one device most surely first."""

_MD5 = re.compile(r"[0-9a-f]{32}")


class Device(NamedTuple):
    """One id of a device: its kind and the 32 hexadecimal digits of its MD5."""

    kind: Kind
    md5: str

    @property
    def key(self) -> int:
        """The first 64 bits of the MD5."""
        return int(self.md5[:16], 16)


def hashed(kind: Kind, plain: str) -> str:
    """The MD5 of a plain id, as exchanges write it.

    >>> hashed("imei", "A0000000000001") == hashed("imei", "a0000000000001")
    True
    """
    if kind == "idfa":
        plain = plain.upper()
    elif kind == "imei":
        plain = plain.lower()
    return hashlib.md5(plain.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


_NOTHING = {
    "idfa": ("", "00000000-0000-0000-0000-000000000000"),
    "caid": ("",),
    "oaid": (
        *("", "0" * 16, "0" * 32, "0" * 64, "00000000-0000-0000-0000-000000000000"),
        *("null", "NULL", "unknown", "UNKNOWN", "undefined"),
    ),
    "imei": ("", "0" * 15),
    "android_id": ("", "0" * 15, "0" * 16),
    "mac": ("", "02:00:00:00:00:00", "00:00:00:00:00:00"),
}
NO_ID = frozenset(hashed(kind, text) for kind in KINDS for text in _NOTHING[kind]) | {"0" * 32}
"""Hashes that very many devices send, since they have no id: they are nobody's."""


def device(kind: Kind, md5: str) -> Device | None:
    """An id that was sent; None where the text is no MD5, or stands for no id."""
    md5 = md5.lower()
    return Device(kind, md5) if _MD5.fullmatch(md5) and md5 not in NO_ID else None
