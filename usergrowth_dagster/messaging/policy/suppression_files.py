"""Suppressions from and to CSV files.

Columns are ``phone`` (a number or an e-mail address) and ``user_id``, at least one of them, and
when wanted ``channel``, ``scope``, ``reason``, ``source`` and ``created_time``, in any order. No
value is an empty cell or ``\\N``; a value holds no line break. A line with both a phone and a user
suppresses each of them.

An exported file holds **real numbers**; it is made with mode 0600. An import is staged in a
temporary table and then taken over in one statement: a file is imported whole or not at all, and
other processes wait for moments only.
"""

import csv
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    MetaData,
    Table,
    case,
    exists,
    null,
    select,
    true,
)
from sqlalchemy.dialects import postgresql, sqlite

from usergrowth_dagster.control import audit, schema
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.data.contracts import LONGEST_LINE, NULL_TEXT
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.messaging.policy.suppression import (
    ALL,
    CHANNELS,
    FORGOTTEN,
    IMPORT,
    entries,
    require_channel,
)
from usergrowth_dagster.messaging.policy.suppression_order import one_after_another

_COLUMNS = ("phone", "user_id", "channel", "scope", "reason", "source", "created_time")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,31}")

SHOWN_PROBLEMS = 20
_CHUNK = 5_000
suppression = schema.suppression
_stage = Table(
    "suppression_stage",
    MetaData(),
    Column("place", schema.BigId, primary_key=True),
    *(Column(c.name, c.type) for c in suppression.columns if c.name not in ("id", "lifted_time")),
    prefixes=["TEMPORARY"],
)
_TAKEN = [c.name for c in _stage.columns if c.name != "place"]


class BadLine(Exception):
    """Why a line cannot be taken: column and rule, without the value.

    Args:
        why: the rest of a sentence that begins with the line.
        unread: the phone cannot be read.
    """

    def __init__(self, why: str, *, unread: bool = False) -> None:
        super().__init__(why)
        self.unread = unread


def _numbered(file: Any) -> Iterator[tuple[int, bytes]]:
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


def _read_header(path: Path, lines: Iterable[tuple[int, bytes]]) -> list[str]:
    """The columns of a file, from its first line.

    Raises:
        UserError: a column is unknown, named twice, or both of phone and user_id are missing.
    """
    first = next(iter(lines), (1, b""))[1].removeprefix(b"\xef\xbb\xbf")
    allowed = f"known are {', '.join(_COLUMNS)}"
    try:
        header = [name.strip() for name in _cells(first)] if first else []
    except BadLine as bad:
        raise UserError(
            f"{path}: line 1{bad}; the first line names the columns", code="suppression.bad_file"
        ) from None
    if unknown := [name for name in header if name not in _COLUMNS]:
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


def _parse_line(
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


@dataclass
class Imported:
    """What became of a file: lines read, rows new in force, rows in force before, lines skipped.

    A line with a phone and a user makes two rows. ``problems`` are the sentences of the first
    skipped lines; ``unread`` counts those whose phone cannot be read.
    """

    lines: int = 0
    added: int = 0
    known: int = 0
    skipped: int = 0
    unread: int = 0
    problems: list[str] = field(default_factory=list)


def import_csv(
    store: ControlStore,
    vault: PhoneVault,
    path: Path,
    *,
    channel: str = "sms",
    scope: str = ALL,
    reason: str = IMPORT,
    skip_bad: bool = False,
    now: datetime,
    actor: str | None = None,
) -> Imported:
    """Put every person of a file in force; who is in force already stays as they are.

    Args:
        store: the control store.
        vault: makes the hashes and seals the numbers.
        path: the CSV file.
        channel: of rows that give none.
        scope: of rows that give none.
        reason: of rows that give none.
        skip_bad: leave bad lines out instead of refusing the file.
        now: the real clock.
        actor: who does it; then the audit log gets an entry.

    Raises:
        UserError: the channel is unknown, the header is wrong, or a line is bad; then nothing has
            been imported.
    """
    require_channel(channel)
    done = Imported()
    defaults = {
        "channel": channel,
        "scope": scope,
        "reason": reason,
        "source": f"import of {path.name}"[:200],
        "created_time": now,
    }
    rows = _rows(vault, path, defaults, done, skip_bad)
    with store.engine.connect() as connection:
        with connection.begin():  # writes to the temporary table alone, so nobody waits
            _stage.drop(connection, checkfirst=True)
            _stage.create(connection)
            staged = _fill(connection, rows)
        try:
            connection.execution_options(write=True)
            with connection.begin():
                done.added = _take_over(connection)
                done.known = staged - done.added
                if actor:
                    detail = f"{done.lines} lines, {done.added} new, {done.skipped} bad lines"
                    audit.record(connection, actor, "import suppressions", path.name, detail)
        finally:
            connection.execution_options(write=False)
            with connection.begin():
                _stage.drop(connection)
    return done


def _fill(connection: Connection, rows: Iterator[dict[str, Any]]) -> int:
    staged = 0
    while chunk := list(islice(rows, _CHUNK)):
        connection.execute(
            _stage.insert(), [{**row, "place": staged + n} for n, row in enumerate(chunk)]
        )
        staged += len(chunk)
    return staged


def _is_forgotten(name: str) -> ColumnElement[bool]:
    """A forgotten person has a staged row's hash, so no address or id may be kept beside it."""
    present = suppression.alias("held")
    return exists(
        select(present.c.id).where(
            present.c[name] == _stage.c[name],
            present.c.lifted_time.is_(None),
            present.c.reason == FORGOTTEN,
        )
    )


def _take_over(connection: Connection) -> int:
    one_after_another(connection)
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    forgotten = _is_forgotten("phone_hash") | _is_forgotten("user_hash")
    private = ("phone_number", "user_id")
    values = [
        case((forgotten, null()), else_=_stage.c[name]) if name in private else _stage.c[name]
        for name in _TAKEN
    ]
    taken = connection.execute(
        insert(suppression)
        .from_select(_TAKEN, select(*values).where(true()).order_by(_stage.c.place))
        .on_conflict_do_nothing(),
        execution_options={"preserve_rowcount": True},
    )
    return int(taken.rowcount)


def _rows(
    vault: PhoneVault,
    path: Path,
    defaults: Mapping[str, Any],
    done: Imported,
    skip_bad: bool,
) -> Iterator[dict[str, Any]]:
    """Rows of the table, as the file is read; counts lines and keeps problems in ``done``."""
    with path.open("rb") as file:
        lines = _numbered(file)
        header = _read_header(path, lines)
        for number, raw in lines:
            done.lines += 1
            try:
                yield from _parse_line(vault, header, raw, defaults)
            except BadLine as bad:
                done.skipped += 1
                done.unread += bad.unread
                if len(done.problems) < SHOWN_PROBLEMS:
                    done.problems.append(f"{path}: line {number}{bad}")
    if done.skipped and not skip_bad:
        more = done.skipped - len(done.problems)
        lines_left = [*done.problems, *([f"and {more} more lines"] if more else [])]
        raise UserError(
            "\n".join(lines_left)
            + "\nNothing was imported: mend these lines, or leave them out with --skip-bad",
            code="suppression.bad_file",
        )


@dataclass(frozen=True)
class Exported:
    """Rows written, and rows in force without an address or id because the person is forgotten."""

    rows: int
    withheld: int


def export_csv(
    store: ControlStore,
    vault: PhoneVault,
    path: Path,
    *,
    force: bool = False,
    actor: str | None = None,
) -> Exported:
    """Write every suppression in force to a new file of mode 0600.

    Args:
        store: the control store.
        vault: opens the numbers.
        path: the file.
        force: replace a file that is there.
        actor: who does it; then the audit log gets an entry.

    Raises:
        UserError: the file is there and ``force`` is not set; or a number cannot be opened.
    """
    if path.exists() and not force:
        raise UserError(
            f"{path}: the file is there already; choose another or use --force",
            code="suppression.bad_file",
        )
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            done = _write(store, vault, file)
            file.flush()
            os.fsync(file.fileno())
        if force:
            draft.replace(path)
        else:
            os.link(draft, path)  # fails when somebody else has made it meanwhile
    finally:
        draft.unlink(missing_ok=True)
    if actor:
        with store.write() as connection:
            audit.record(connection, actor, "export suppressions", path.name, f"{done.rows} rows")
    return done


def _write(store: ControlStore, vault: PhoneVault, file: Any) -> Exported:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    query = (
        select(suppression).where(suppression.c.lifted_time.is_(None)).order_by(suppression.c.id)
    )
    rows = withheld = 0
    with store.read() as connection:
        for row in connection.execution_options(yield_per=_CHUNK).execute(query).mappings():
            if row["phone_number"] is None and row["user_id"] is None:
                withheld += 1
                continue
            phone = vault.open(row["phone_number"]) if row["phone_number"] else ""
            rest = (row[name] for name in _COLUMNS[2:-1])
            writer.writerow([phone, row["user_id"] or "", *rest, row["created_time"].isoformat()])
            rows += 1
    return Exported(rows, withheld)
