"""``output.csv``: the users to be texted in the vendor's format, in a folder that was empty before.

The file has no header; its lines are ``user_id,item_id,phone,score`` by rank. A phone is written
in E.164, a score with the digits that give the same double back, a field
with a comma, quote or line break in double quotes. By setting, what a spreadsheet would take for a
formula has an apostrophe before it.

Which file is our own is remembered in the product's state (``outputs/<task>.json`` under the
storage root), never in the folder: the hashes of what was written there. The hash of a new file is
noted *before* the file is put in place, so a crash between the two leaves a folder that is still
recognized.
"""

import hashlib
import json
import posixpath
import re
import tempfile
from dataclasses import dataclass
from datetime import date
from typing import IO, Any, Literal

from usergrowth_dagster.addresses.sql import number_sql
from usergrowth_dagster.audience.records import check_task_id
from usergrowth_dagster.data.contracts import DAILY_TABLES
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.warehouse.engine import Engine

FILE_NAME = "output.csv"
_BLOCK = 1 << 20
_LINES = 50_000


@dataclass(frozen=True)
class OutputFile:
    """The file as it stands: path below the landing root, lines, SHA-256, what was done."""

    path: str
    rows: int
    sha256: str
    state: Literal["written", "unchanged"]


def check_output_folder(landing: Storage, path: str, task_id: str, *, state: Storage) -> None:
    """Refuse an output folder that holds anything but this task's own earlier output.

    To be called before anything is computed.

    Args:
        landing: the storage that the folder is in.
        path: the folder, below the storage's root.
        task_id: the task that will write there.
        state: the product's storage root, where earlier outputs are remembered.

    Raises:
        UserError: names the first thing in the folder that is not ours.
    """
    folder = path.strip("/")
    if folder.split("/")[0].casefold() in (*DAILY_TABLES, "population"):
        raise UserError(
            f"{landing.uri(folder)}: the output folder of task {task_id!r} lies among the landing "
            "files; give the campaign another output path, such as population_output/{task}",
            code="output.foreign",
        )
    files = landing.files(folder, deep=True)
    file = f"{folder}/{FILE_NAME}"
    foreign = [entry.path for entry in files if entry.path != file]
    # Folders count only in themselves: what is in them has been listed already.
    foreign += [f"{folder}/{name}" for name in landing.folders(folder) if name[0] != "."]
    # The path may be a file, which holds no files and yet is in the way.
    above = landing.files(posixpath.dirname(folder))
    foreign += [entry.path for entry in above if entry.path == folder]
    if foreign:
        raise UserError(
            f"{landing.uri(foreign[0])}: the output folder of task {task_id!r} must be empty; move "
            "this away, or give the campaign another output path",
            code="output.foreign",
        )
    if files and _sha256_of(landing, file) not in _known(state, task_id, folder):
        raise UserError(
            f"{landing.uri(file)}: this file was not written by task {task_id!r}, or was edited "
            "since; move it away, or give the campaign another output path",
            code="output.foreign",
        )


def write_output(
    engine: Engine,
    landing: Storage,
    path: str,
    *,
    state: Storage,
    task_id: str,
    execution_date: date,
    decisions: str = "decisions",
    population: str = "population",
    for_spreadsheets: bool = False,
) -> OutputFile:
    """Write those whom a decision texts to ``<path>/output.csv``, whole or not at all.

    Args:
        engine: the engine that both relations are bound in.
        landing: the storage that the folder is in.
        path: the folder, below the storage's root.
        state: the product's storage root, where the written file is remembered.
        task_id: the task; other tasks' rows of the relations are left out.
        execution_date: D; other dates' rows of the relations are left out.
        decisions: name of a relation with the columns of the decisions table.
        population: name of a relation with ds, task_id, row, user_id, item_id, phone.
        for_spreadsheets: put an apostrophe before what a spreadsheet would take for a formula.

    Returns:
        The file. An equal file that is there already is not touched (``unchanged``).

    Raises:
        UserError: the folder holds something else, or the population is not the one decided upon.
    """
    check_output_folder(landing, path, task_id, state=state)
    folder = path.strip("/")
    file = f"{folder}/{FILE_NAME}"
    with tempfile.TemporaryFile() as content:
        engine.run(
            f"create or replace temp table {_LINE_TABLE} as "
            + _lines_sql(
                literal(check_task_id(task_id)),
                execution_date,
                identifier(decisions),
                identifier(population),
                for_spreadsheets=for_spreadsheets,
            )
        )
        try:
            rows = _check_lines(engine, task_id, execution_date)
            digest = _spool(engine, content)
        finally:
            engine.run(f"drop table {_LINE_TABLE}")
        known = _known(state, task_id, folder)
        if landing.exists(file) and _sha256_of(landing, file) == digest:
            if known != [digest]:
                _remember(state, task_id, folder, [digest])
            return OutputFile(file, rows, digest, "unchanged")
        _remember(state, task_id, folder, [*known, digest])

        def produce(handle: IO[bytes]) -> None:
            content.seek(0)
            while block := content.read(_BLOCK):
                handle.write(block)

        landing.write_atomic(file, produce)
    _remember(state, task_id, folder, [digest])
    return OutputFile(file, rows, digest, "written")


def erase_from_output(
    landing: Storage,
    path: str,
    user_id: str,
    *,
    state: Storage,
    task_id: str,
    dry_run: bool = False,
) -> int:
    """Write a task's output again without a user; returns how many lines the user had.

    Args:
        landing: the storage that the folder is in.
        path: the folder, below the storage's root.
        user_id: the user.
        state: the product's storage root, where the written file is remembered.
        task_id: the task.
        dry_run: count only.

    Raises:
        UserError: the file holds the user, and was not written by the task as it is.
    """
    folder = path.strip("/")
    file = f"{folder}/{FILE_NAME}"
    if not landing.exists(file):
        return 0
    starts = tuple(f"{_csv_field(name)},".encode() for name in (user_id, f"'{user_id}"))
    if re.match(_FORMULA, user_id) is None:
        starts = starts[:1]  # the other may be another user's
    lines, digest = 0, hashlib.sha256()
    with tempfile.TemporaryFile() as content:
        with landing.open(file) as handle:
            for line in handle:
                if line.startswith(starts):
                    lines += 1
                    continue
                digest.update(line)
                content.write(line)
        if dry_run or not lines:
            return lines
        known = _known(state, task_id, folder)
        if _sha256_of(landing, file) not in known:
            raise UserError(
                f"{landing.uri(file)}: holds the person in {lines} lines, but was not written by "
                f"task {task_id!r} or was edited since; remove the lines, or the file, by hand",
                code="output.foreign",
            )
        _remember(state, task_id, folder, [*known, digest.hexdigest()])

        def produce(handle: IO[bytes]) -> None:
            content.seek(0)
            while block := content.read(_BLOCK):
                handle.write(block)

        landing.write_atomic(file, produce)
    _remember(state, task_id, folder, [digest.hexdigest()])
    return lines


_LINE_TABLE = "_audience_lines"


_FORMULA = r"[=+\-@\t\r]"
"""How a value begins that a spreadsheet takes for a formula."""


def _csv_field(value: str) -> str:
    """A value as :func:`_field` writes it."""
    quotes = any(c in value for c in ',"\r\n')
    return '"' + value.replace('"', '""') + '"' if quotes else value


def _no_formula(value: str) -> str:
    return f"concat(case when regexp_matches({value}, '^{_FORMULA}') then chr(39) end, {value})"


def _field(value: str) -> str:
    quoted_value = f"""'"' || replace({value}, '"', '""') || '"'"""
    return f"case when regexp_matches({value}, '[\",\\r\\n]') then {quoted_value} else {value} end"


def _lines_sql(
    task: str,
    execution_date: date,
    decisions: str,
    population: str,
    *,
    for_spreadsheets: bool = False,
) -> str:
    """rank, line, whether the population's row is the one decided upon, whether digits suffice."""
    mine = f"task_id = {task} and ds = date '{execution_date.isoformat()}'"
    # an e-mail campaign takes people whose phone is no number
    phone = f"coalesce({number_sql('p.phone')}, p.phone, '')"
    values = ["d.user_id", "d.item_id", phone]
    if for_spreadsheets:
        values = [f"({_no_formula(value)})" for value in values]
    fields = [_field(value) for value in values]
    return f"""
with d as (
    select "row", rank, user_id, item_id, score, cast(score as varchar) as digits
    from {decisions} where arm = 'treatment' and {mine}
),
p as (select "row", user_id, item_id, phone from {population} where {mine})
select
    d.rank,
    {" || ',' || ".join(fields)} || ',' || d.digits as line,
    p.user_id = d.user_id and p.item_id = d.item_id as same_row,
    cast(d.digits as double) = d.score as exact
from d left join p using ("row")"""


def _check_lines(engine: Engine, task_id: str, execution_date: date) -> int:
    rows, ranks, lost, inexact = engine.rows(f"""
        select count(*), count(distinct rank),
            count(*) filter (where line is null or same_row is not true),
            count(*) filter (where exact is not true)
        from {_LINE_TABLE}""")[0]
    if lost:
        raise UserError(
            f"population of task {task_id!r} on {execution_date}: {lost} of {rows} rows to be "
            "texted are not in it as they were decided, since it was uploaded again; decide the "
            "task anew",
            code="population.invalid",
        )
    if inexact or ranks != rows:
        raise AssertionError(f"{inexact} of {rows} scores lose digits; {ranks} distinct ranks")
    return int(rows)


def _spool(engine: Engine, content: IO[bytes]) -> str:
    """Write the lines by rank and return their SHA-256."""
    digest = hashlib.sha256()
    reader = engine.connection.sql(f"select line from {_LINE_TABLE} order by rank").to_arrow_reader(
        _LINES
    )
    for batch in reader:
        block = ("\n".join(batch.column(0).to_pylist()) + "\n").encode()
        digest.update(block)
        content.write(block)
    return digest.hexdigest()


def _sha256_of(storage: Storage, path: str) -> str:
    digest = hashlib.sha256()
    with storage.open(path) as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _state_path(task_id: str) -> str:
    return f"outputs/{check_task_id(task_id)}.json"


def _read_state(state: Storage, task_id: str) -> dict[str, Any]:
    path = _state_path(task_id)
    if not state.exists(path):
        return {}
    record: dict[str, Any] = json.loads(state.read_bytes(path))
    return record


def _known(state: Storage, task_id: str, folder: str) -> list[str]:
    """Hashes of the files that this task wrote, or was about to write, into a folder."""
    return list(_read_state(state, task_id).get(folder, []))


def _remember(state: Storage, task_id: str, folder: str, hashes: list[str]) -> None:
    record = _read_state(state, task_id) | {folder: sorted(set(hashes))}
    state.write_bytes(_state_path(task_id), json.dumps(record, indent=1, sort_keys=True).encode())
