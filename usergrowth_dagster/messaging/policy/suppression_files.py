"""Suppressions from and to CSV files, with the columns of :mod:`.suppression_lines`.

An exported file holds **real numbers**; it is made with mode 0600. An import is staged in a
temporary table and then taken over in one statement: a file is imported whole or not at all, and
other processes wait for moments only.
"""

import csv
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
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
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.messaging.policy.suppression import (
    ALL,
    FORGOTTEN,
    IMPORT,
)
from usergrowth_dagster.messaging.policy.suppression_lines import (
    COLUMNS,
    BadLine,
    numbered,
    parse_line,
    read_header,
)
from usergrowth_dagster.messaging.policy.suppression_order import one_after_another

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
        UserError: the header is wrong, or a line is bad; then nothing has been imported.
    """
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
        lines = numbered(file)
        header = read_header(path, lines)
        for number, raw in lines:
            done.lines += 1
            try:
                yield from parse_line(vault, header, raw, defaults)
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
    writer.writerow(COLUMNS)
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
            rest = (row[name] for name in COLUMNS[2:-1])
            writer.writerow([phone, row["user_id"] or "", *rest, row["created_time"].isoformat()])
            rows += 1
    return Exported(rows, withheld)
