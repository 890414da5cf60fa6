"""The entries of what a provider posts, each read by itself: a bad one loses nothing but itself.

A post that is not in the provider's form at all is refused as a whole. Within one that is, an entry
that cannot be read is kept as it came, for a person, and the provider is not asked to send the
others again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any, TypeVar

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.gateways.protocol import Unread, UnsignedError

MOST_ENTRIES = 20_000
T = TypeVar("T")
Entry = Mapping[str, Any]


def read_entries(
    entries: Sequence[object],
    what: str,
    read: Callable[[Entry, str], T | None],
    phone: str = "phone_number",
) -> list[T | Unread]:
    """Read each object of a posted array.

    Args:
        entries: the array.
        what: begins the sentences: ``SmsUp``.
        read: reads an object, given where it stands, or returns None when it belongs to another
            system; raises ``UserError`` when it cannot.
        phone: key of the number that an object is from or about.

    Raises:
        UserError: the array is longer than any provider makes it.
    """
    if len(entries) > MOST_ENTRIES:
        raise UserError(
            f"{what}: at most {MOST_ENTRIES:,} entries may be posted at once",
            code="callback.malformed",
        )
    return [
        _read_entry(entry, f"{what}: entry {number}", read, phone)
        for number, entry in enumerate(entries, 1)
    ]


def _read_entry(
    entry: object, where: str, read: Callable[[Entry, str], T | None], phone: str
) -> T | Unread:
    def said() -> T | None:
        if not isinstance(entry, dict):
            raise UserError(f"{where}: expected an object", code="callback.malformed")
        return read(entry, where)

    given = entry.get(phone) if isinstance(entry, dict) else None
    return read_one(said, lambda: _written(entry), given, where)


def _written(entry: object) -> str:
    try:
        return json.dumps(entry, ensure_ascii=False)
    except RecursionError:
        return "(nested too deeply to be kept)"


def read_one(
    read: Callable[[], T | None], raw: Callable[[], str], phone: object, where: str
) -> T | Unread:
    """Read one entry.

    Args:
        read: reads it; None when it belongs to another system.
        raw: writes it down as it came.
        phone: the number that it is from or about, if it is a text.
        where: begins the sentence when reading fails with anything but a ``UserError``.

    Raises:
        UnsignedError: the entry is forged.
    """
    try:
        item = read()
    except UnsignedError:
        raise
    except UserError as error:
        return Unread(str(error), raw(), phone if isinstance(phone, str) and phone else None)
    except Exception as error:  # its text might hold a number
        why = f"{where}: {type(error).__name__}"
        return Unread(why, raw(), phone if isinstance(phone, str) and phone else None)
    return Unread(f"{where}: of another system", None) if item is None else item


def moment_of(entry: Entry, key: str, zone: tzinfo) -> datetime | None:
    """An entry's time, in ``zone`` where it has no offset; None, which means now, if unreadable."""
    value = entry.get(key)
    if not isinstance(value, str) or len(value) > 64:
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def text_of(entry: Entry, key: str, where: str, *, empty: bool = False) -> str:
    """A text of an entry.

    Raises:
        UserError: it is missing, no text, or empty where it must not be.
    """
    value = entry.get(key)
    if not isinstance(value, str) or not (value or empty):
        raise UserError(f"{where}: {key!r} must be a text", code="callback.malformed")
    return value
