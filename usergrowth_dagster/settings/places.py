"""Where things lie: which folders can be used, and how paths become URLs and URIs become paths."""

import os
import re
import unicodedata
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

RESERVED_COLUMNS = ("ds", "as_of", "task_id", "table_name", "user_id", "item_id", "row", "arm")
"""Columns of the tables that a folder ``<column>=<value>`` above them would overwrite."""

_UNREADABLE = {"Cc", "Cs", "Zl", "Zp"}  # control characters, bytes that are no UTF-8, line ends
_NOT_FOR_TABLES = re.compile(r"[\[\]^|\\]|%[0-9A-Fa-f]{2}")
_COLUMN = re.compile(rf"(?:{'|'.join(RESERVED_COLUMNS)})=.*", re.IGNORECASE)


def keep_private() -> None:
    """What this process writes from now on is for its own user alone, whatever the umask was."""
    os.umask(0o077)


def sqlite_url(path: Path | str) -> str:
    """The SQLAlchemy URL of an SQLite file, whatever characters its path has.

    A path that a URL would read otherwise is quoted as a whole, slashes too: MLflow makes the
    folder that the URL names, and an unquoted part would make a folder of the quoted name.
    """
    text = str(path)
    plain = unquote(text) == text and not set(text) & set("?#")
    return "sqlite:///" + (text if plain else quote(text, safe=""))


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite URL; None for another database and for one in memory."""
    if not url.startswith("sqlite:///"):
        return None
    name = unquote(url.removeprefix("sqlite:///").partition("?")[0])
    return None if name in ("", ":memory:") else Path(name)


def local_path(place: str) -> Path | None:
    """The path that a directory or a ``file:`` URI names; None for another machine's place."""
    if place.startswith("file:"):
        return Path(unquote(urlsplit(place.replace("#", "%23").replace("?", "%3F")).path))
    return None if "://" in place else Path(place)


def refusal(place: str) -> str | None:
    """Why nothing can be kept in a place, in the words that follow its path; None where it can."""
    for character in place:
        if unicodedata.category(character) in _UNREADABLE:
            return (
                f"has the character {character!r} in its path, which other programs cannot read; "
                "rename the folder, or choose another"
            )
    return None


def table_refusal(place: str) -> str | None:
    """Why no tables can be kept in a place; None where they can.

    Delta Lake fails on some characters, and reads ``%41`` as ``A``. A folder named like a
    partition (``ds=20240101``) would be taken for a column of every table below it.
    """
    for part in Path(place).parts if local_path(place) is not None else place.split("/"):
        if _COLUMN.fullmatch(part):
            return f"lies below {part!r}, which would be read as a column of the tables"
    if local_path(place) is None:
        return None
    bad = _NOT_FOR_TABLES.search(place)
    return None if bad is None else f"has {bad[0]!r} in its path, which Delta Lake cannot open"
