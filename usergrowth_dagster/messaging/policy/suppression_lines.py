"""Lines of a CSV file of suppressions.

Columns ``phone`` (a number or an e-mail address) and ``user_id``, at least one of them, and when
wanted ``channel``, ``scope``, ``reason``, ``source`` and ``created_time``, in any order. No value
is an empty cell or ``\\N``; a value holds no line break. A line with both a phone and a user
suppresses each of them.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from usergrowth_dagster.data.contracts import LONGEST_LINE, NULL_TEXT
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.messaging.policy.suppression import CHANNELS, FORGOTTEN, entries

COLUMNS = ("phone", "user_id", "channel", "scope", "reason", "source", "created_time")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,31}")


class BadLine(Exception):
    """Why a line cannot be taken: column and rule, without the value.

    Args:
        why: the rest of a sentence that begins with the line.
        unread: the phone cannot be read.
    """

    def __init__(self, why: str, *, unread: bool = False) -> None:
        super().__init__(why)
        self.unread = unread


def numbered(file: Any) -> Iterator[tuple[int, bytes]]:
    """Lines that are not empty, with their numbers; of one that is too long, only its start."""
    number = 0
    while raw := file.readline(LONGEST_LINE + 1):
        number += 1
        whole = raw
        while not whole.endswith(b"\n") and (more := file.readline(LONGEST_LINE + 1)):
            whole = more
        if raw.strip():
            yield number, raw.rstrip(b"\r\n") if len(raw) <= LONGEST_LINE else raw


def _cells(raw: bytes) -> list[str]:
    if len(raw) > LONGEST_LINE:
        raise BadLine(f": a line has at most {LONGEST_LINE:,} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise BadLine(": the line is not UTF-8 text") from None
    if "\0" in text or "\r" in text:
        raise BadLine(": the line holds a NUL byte or a carriage return")
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error:
        raise BadLine(": a double quote encloses a whole value and is doubled inside") from None


def read_header(path: Path, lines: Iterable[tuple[int, bytes]]) -> list[str]:
    """The columns of a file, from its first line.

    Raises:
        UserError: a column is unknown, named twice, or both of phone and user_id are missing.
    """
    first = next(iter(lines), (1, b""))[1].removeprefix(b"\xef\xbb\xbf")
    allowed = f"known are {', '.join(COLUMNS)}"
    try:
        header = [name.strip() for name in _cells(first)] if first else []
    except BadLine as bad:
        raise UserError(
            f"{path}: line 1{bad}; the first line names the columns", code="suppression.bad_file"
        ) from None
    if unknown := [name for name in header if name not in COLUMNS]:
        # what stands there may be a number, when the file has no header
        shown = re.sub(r"[0-9]", "*", unknown[0])[:40]
        raise UserError(
            f"{path}: line 1: there is no column {shown!r}; {allowed}", code="suppression.bad_file"
        )
    if len(set(header)) < len(header):
        raise UserError(f"{path}: line 1: a column is named twice", code="suppression.bad_file")
    if not {"phone", "user_id"} & set(header):
        raise UserError(
            f"{path}: line 1: neither phone nor user_id is a column; {allowed}",
            code="suppression.bad_file",
        )
    return header


def parse_line(
    vault: PhoneVault, header: Sequence[str], raw: bytes, defaults: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """One line as rows of the table, one for its phone and one for its user.

    Args:
        vault: makes the hashes and seals the number.
        header: the file's columns.
        raw: the line without its end.
        defaults: channel, scope, reason, source and created_time where the line gives none.

    Raises:
        BadLine: it breaks a rule.
    """
    cells = _cells(raw)
    if len(cells) != len(header):
        raise BadLine(f": {len(cells)} values under {len(header)} columns")
    given = {
        name: cell.strip()
        for name, cell in zip(header, cells, strict=True)
        if cell.strip() not in ("", NULL_TEXT)
    }
    values = {**defaults, "phone": None, "user_id": None, **given}
    _check(values, given)
    try:
        return entries(
            vault,
            phone=values["phone"],
            user_id=values["user_id"],
            channel=values["channel"],
            scope=values["scope"],
            reason=values["reason"],
            source=values["source"],
            now=values["created_time"],
        )
    except UserError as error:
        column = "phone" if "phone" in given else "user_id"
        raise BadLine(f", column {column}: {error}", unread=column == "phone") from None


def _check(values: dict[str, Any], given: Mapping[str, str]) -> None:
    if not {"phone", "user_id"} & set(given):
        raise BadLine(": neither a phone nor a user_id")
    if values["channel"] not in CHANNELS:
        raise BadLine(", column channel: sms, email or *")
    if len(values["scope"]) > 64:
        raise BadLine(", column scope: a signature of at most 64 characters, or *")
    if not _WORD.fullmatch(values["reason"]) or values["reason"] == FORGOTTEN:
        raise BadLine(
            f", column reason: at most 32 lower-case letters, digits and _, and not {FORGOTTEN}"
        )
    if "created_time" in given:
        try:
            moment = datetime.fromisoformat(given["created_time"])
        except ValueError:
            raise BadLine(", column created_time: a time such as 2017-12-28T10:00:00Z") from None
        values["created_time"] = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
