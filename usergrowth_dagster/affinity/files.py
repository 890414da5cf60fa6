"""The files of a folder in the form of Amazon Personalize and Pinpoint, as tables of an engine.

========================  =====================================================================
``interactions.csv``      USER_ID, ITEM_ID, TIMESTAMP (unix seconds); EVENT_TYPE, EVENT_VALUE
``items.csv``             ITEM_ID and the fields of expressions, such as GENRES (``Crime|Drama``)
``users.csv``             USER_ID; may be missing
``endpoints.csv``         User.UserId; Id, ChannelType, Address, OptOut, EndpointStatus
========================  =====================================================================

Column names are compared without regard to case, and other columns are ignored. Each row that is
not taken has a line and a reason in the :class:`FileReport` of its file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from usergrowth_dagster.affinity.csv_file import (
    Fault,
    FileReport,
    bad_file,
    faults_of,
    load_csv,
    read_header,
)
from usergrowth_dagster.data.forgotten import Forgotten, is_forgotten_sql
from usergrowth_dagster.intake.forgotten import forgotten_people
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import identifier
from usergrowth_dagster.settings import CONFIG_NAME, Settings
from usergrowth_dagster.warehouse.engine import Engine

INTERACTIONS = "interactions.csv"
ITEMS = "items.csv"
USERS = "users.csv"
ENDPOINTS = "endpoints.csv"

_MILLISECONDS = 1e11
"""A timestamp from here on counts milliseconds; as seconds it would be in the year 5138."""

_LATEST = 4102444800
"""The first second of the year 2100: nobody did anything later."""

_NO_NUMBER = "TIMESTAMP is no number"
_NO_TIME = "TIMESTAMP is not between 1970 and 2100 in unix seconds"
_AGAIN = "the same row again"
_BLANK = "blank line"
_FORGOTTEN = "the person was forgotten"


@dataclass(frozen=True)
class Folder:
    """What the files of a folder hold.

    Attributes:
        reports: what each file holds, and what of it was not taken.
        fields: the column of the table ``items`` by field in lower case.
        has_endpoints: whether there is a table ``endpoints``.
        own_ids: whether the endpoints came without ids and got ids of ours.
    """

    reports: tuple[FileReport, ...]
    fields: Mapping[str, str]
    has_endpoints: bool
    own_ids: bool


def forgotten_of(settings: Settings) -> Forgotten | None:
    """The people whose rows no job of a home takes; None for a folder that is no home."""
    if not (settings.home / CONFIG_NAME).exists():
        return None
    return forgotten_people(Project(settings))


def load_folder(
    engine: Engine, folder: Path, *, endpoints: bool = True, forgotten: Forgotten | None = None
) -> Folder:
    """Make the tables ``events``, ``people``, ``things``, ``items`` and ``endpoints``.

    ``events`` has one row an interaction: u and i (numbers of ``people`` and ``things`` in the
    order of their ids) and t (unix seconds). ``items`` has all fields as texts, and i.

    Args:
        engine: where the tables are made.
        folder: of the files.
        endpoints: whether ``endpoints.csv`` is needed.
        forgotten: people whose rows are not taken.

    Raises:
        UserError: a file is missing or lacks a column, or has no row that can be taken.
    """
    gone = _gone(engine, forgotten)
    interactions = _interactions(engine, folder / INTERACTIONS, gone)
    items, fields = _items(engine, folder / ITEMS)
    reports = [interactions, items]
    if (folder / USERS).exists():
        reports.append(_users(engine, folder / USERS, gone))
    own_ids = False
    if endpoints:
        report, own_ids = load_endpoints(engine, folder / ENDPOINTS, forgotten)
        reports.append(report)
    return Folder(tuple(reports), fields, endpoints, own_ids)


def _gone(engine: Engine, forgotten: Forgotten | None) -> Callable[[str], str]:
    """The condition that the user id of an expression is that of a forgotten person."""
    if forgotten is None:
        return lambda _: "false"
    forgotten.bind(engine.connection)
    return is_forgotten_sql


def _columns(path: Path, required: Sequence[str], optional: Sequence[str]) -> dict[str, str]:
    """The file's column by the name that is known, for those that it has.

    Raises:
        UserError: a required one is missing.
    """
    names, _ = read_header(path)
    by_name = {name.casefold(): name for name in names}
    for column in required:
        if column.casefold() not in by_name:
            raise bad_file(
                f"{path}: line 1 has no column {column}; it has {', '.join(names)[:200]}"
            )
    known = (*required, *optional)
    return {c: by_name[c.casefold()] for c in known if c.casefold() in by_name}


def _ignored(path: Path, known: Mapping[str, str]) -> tuple[str, ...]:
    extra = [name for name in read_header(path)[0] if name not in known.values()]
    return (f"columns ignored: {', '.join(extra)[:200]}",) if extra else ()


def _report(
    engine: Engine,
    path: Path,
    table: str,
    broken: Sequence[tuple[int, str]],
    shown: Mapping[str, str],
    notes: tuple[str, ...] = (),
) -> FileReport:
    faults = faults_of(engine, table, broken, shown)
    rows = engine.value(f"select count(*) from {table}")
    taken = engine.value(f"select count(*) from {table} where fault is null")
    if taken + sum(fault.rows for fault in faults) != rows + len(broken):
        raise AssertionError(f"rows of {path.name} were lost")
    return FileReport(path.name, rows + len(broken), taken, faults, notes)


def _interactions(engine: Engine, path: Path, gone: Callable[[str], str]) -> FileReport:
    columns = _columns(path, ("USER_ID", "ITEM_ID", "TIMESTAMP"), ("EVENT_TYPE", "EVENT_VALUE"))
    broken = load_csv(engine, "_interactions_raw", path, columns)
    kinds = [name for name in ("EVENT_TYPE", "EVENT_VALUE") if name in columns]
    engine.run(
        f"""
        create or replace table _interactions as
        with numbered as (
            select *, try_cast("TIMESTAMP" as double) as number,
                row_number() over (
                    partition by {", ".join(["USER_ID", "ITEM_ID", '"TIMESTAMP"', *kinds])}
                    order by line
                ) as repeated
            from _interactions_raw
        )
        select line, USER_ID as user_id, ITEM_ID as item_id, "TIMESTAMP" as stamp,
            case when number >= {_MILLISECONDS} then number / 1000 else number end as t,
            case
                when coalesce(USER_ID, ITEM_ID, "TIMESTAMP") is null then '{_BLANK}'
                when USER_ID is null then 'USER_ID is empty'
                when {gone("USER_ID")} then '{_FORGOTTEN}'
                when ITEM_ID is null then 'ITEM_ID is empty'
                when number is null or not isfinite(number) then '{_NO_NUMBER}'
                when t <= 0 or t >= {_LATEST} then '{_NO_TIME}'
                when repeated > 1 then '{_AGAIN}'
            end as fault,
            number >= {_MILLISECONDS} as milliseconds
        from numbered
        """
    )
    engine.run("drop table _interactions_raw")
    notes = _ignored(path, columns)
    if many := engine.value(
        "select count(*) from _interactions where fault is null and milliseconds"
    ):
        notes += (f"{many:,} timestamps are read as milliseconds",)
    shown = {_NO_NUMBER: "stamp", _NO_TIME: "stamp"}
    report = _report(engine, path, "_interactions", broken, shown, notes)
    if not report.taken:
        why = "; ".join(f"{f.rows:,} {f.reason} ({f.example})" for f in report.faults)
        raise bad_file(f"{path}: no row can be taken: {why or 'there is none behind the header'}")
    _number_events(engine)
    return report


def _number_events(engine: Engine) -> None:
    """People and things get numbers in the order of their ids, so that a run can be repeated."""
    for table, column, number in (("people", "user_id", "u"), ("things", "item_id", "i")):
        engine.run(
            f"create or replace table {table} as select {column}, "
            f"cast(row_number() over (order by {column}) - 1 as integer) as {number} "
            f"from (select distinct {column} from _interactions where fault is null)"
        )
    engine.run(
        "create or replace table events as select u, i, t from _interactions "
        "join people using (user_id) join things using (item_id) where fault is null"
    )
    engine.run("drop table _interactions")


def _items(engine: Engine, path: Path) -> tuple[FileReport, dict[str, str]]:
    names = read_header(path)[0]
    columns = _columns(path, ("ITEM_ID",), [n for n in names if n and n.casefold() != "item_id"])
    wanted = {f"f{number}": column for number, column in enumerate(columns.values())}
    broken = load_csv(engine, "_items_raw", path, wanted)
    engine.run(
        f"""
        create or replace table _items as
        select *,
            case
                when coalesce({", ".join(wanted)}) is null then '{_BLANK}'
                when f0 is null then 'ITEM_ID is empty'
                when row_number() over (partition by f0 order by line) > 1
                    then 'ITEM_ID appeared before'
            end as fault
        from _items_raw
        """
    )
    report = _report(engine, path, "_items", broken, {})
    engine.run(
        "create or replace table items as select s.*, t.i from _items as s "
        "left join things as t on s.f0 = t.item_id where fault is null"
    )
    engine.run("drop table _items_raw")
    unknown = engine.value(
        "select count(*) from events where i not in (select i from items where i is not null)"
    )
    if unknown:
        things = engine.value("select count(*) from things anti join items using (i)")
        note = (
            f"{things:,} items of {unknown:,} interactions are missing here: they count as "
            "activity and match no expression"
        )
        report = FileReport(path.name, report.rows, report.taken, report.faults, (note,))
    return report, {source.casefold(): name for name, source in wanted.items()}


def _users(engine: Engine, path: Path, gone: Callable[[str], str]) -> FileReport:
    columns = _columns(path, ("USER_ID",), ())
    broken = load_csv(engine, "_users_raw", path, {"user_id": columns["USER_ID"]})
    engine.run(
        f"""
        create or replace table _users as
        select *, case
            when user_id is null then 'USER_ID is empty'
            when {gone("user_id")} then '{_FORGOTTEN}'
            when row_number() over (partition by user_id order by line) > 1
                then 'USER_ID appeared before'
        end as fault
        from _users_raw
        """
    )
    engine.run("drop table _users_raw")
    idle = engine.value(
        "select count(*) from _users anti join people using (user_id) where fault is null"
    )
    strangers = engine.value(
        "select count(*) from people anti join (select user_id from _users where fault is null) "
        "using (user_id)"
    )
    notes = []
    if idle:
        notes.append(f"{idle:,} users have no interaction and get no score")
    if strangers:
        notes.append(f"{strangers:,} users of interactions are missing here and get a score")
    return _report(engine, path, "_users", broken, {}, tuple(notes))


def load_endpoints(
    engine: Engine, path: Path, forgotten: Forgotten | None = None
) -> tuple[FileReport, bool]:
    """Make the table ``endpoints``: line, user_id, id, and fault, NULL for those that count.

    An endpoint that refuses messages (OptOut ALL) or is INACTIVE in any row does not count.

    Returns:
        What the file holds, and whether the ids are ours because it has none.

    Raises:
        UserError: the file cannot be used.
    """
    optional = ("Id", "ChannelType", "Address", "OptOut", "EndpointStatus")
    columns = _columns(path, ("User.UserId",), optional)
    wanted = {name.replace(".", "_").casefold(): column for name, column in columns.items()}
    broken = load_csv(engine, "_endpoints_raw", path, wanted)
    own_ids = "id" not in wanted
    if own_ids and not {"channeltype", "address"} <= wanted.keys():
        raise bad_file(f"{path}: line 1 has neither Id nor both ChannelType and Address")
    identity = (
        "md5(concat_ws(chr(31), user_userid, upper(channeltype), address))" if own_ids else "id"
    )
    optout = "optout" if "optout" in wanted else "cast(null as varchar)"
    status = "endpointstatus" if "endpointstatus" in wanted else "cast(null as varchar)"
    known = "address is not null and channeltype is not null" if own_ids else "id is not null"
    engine.run(
        f"""
        create or replace table endpoints as
        select line, user_userid as user_id, {identity} as id,
            case
                when coalesce({", ".join(wanted)}) is null then '{_BLANK}'
                when user_userid is null then 'User.UserId is empty'
                when {_gone(engine, forgotten)("user_userid")} then '{_FORGOTTEN}'
                when not ({known}) then '{"no ChannelType or Address" if own_ids else "no Id"}'
                when bool_or(upper({optout}) = 'ALL') over one then 'OptOut is ALL'
                when bool_or(upper({status}) = 'INACTIVE') over one
                    then 'EndpointStatus is INACTIVE'
                when row_number() over (one order by line) > 1
                    then 'the endpoint appeared before'
            end as fault
        from _endpoints_raw
        window one as (partition by {identity})
        """
    )
    notes: tuple[str, ...] = ()
    if own_ids:
        notes = (
            "there is no column Id: ids are made of user, channel and address, and "
            "endpoints_with_ids.csv has them for an import",
        )
    return _report(engine, path, "endpoints", broken, {}, notes), own_ids


def unusable(report: FileReport) -> list[str]:
    """What of a file was not taken, a sentence each."""

    def sentence(fault: Fault) -> str:
        return f"{report.file}: {fault.rows:,} of {report.rows:,} rows are not taken: " + (
            f"{fault.reason} (first: {fault.example})"
        )

    return [*map(sentence, report.faults), *(f"{report.file}: {note}" for note in report.notes)]


def quoted_field(fields: Mapping[str, str], field: str) -> str:
    """The column of a field, quoted."""
    return identifier(fields[field.casefold()])
