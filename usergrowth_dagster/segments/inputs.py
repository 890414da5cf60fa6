"""What a segment's tree reads, bound in an engine as of an execution date."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from usergrowth_dagster.data.storage import file_literal
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.segments.compile import (
    AIPL,
    DAYS,
    EVENTS,
    FEATURES,
    ITEMS,
    RFM,
    SCORES,
    TAGS,
    Inputs,
    tables_of,
)
from usergrowth_dagster.segments.definition import Leaf, Named, Segment
from usergrowth_dagster.segments.files import FOLDER
from usergrowth_dagster.segments.leaves import Member, Score, Tagged, Upload, Window
from usergrowth_dagster.segments.lifecycle import Lifecycle
from usergrowth_dagster.segments.snapshots import bind_members, good, read_snapshots
from usergrowth_dagster.segments.windows import cut_note
from usergrowth_dagster.sql_shell.catalog import duckdb_types
from usergrowth_dagster.tags.definition import FILE_NAME as TAGS_FILE
from usergrowth_dagster.tags.definition import read_catalogue
from usergrowth_dagster.tags.freshness import stale_tags
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import files_fingerprint

_BUILD = {
    FEATURES: "build it with `usergrowth run --date {day}` or `usergrowth backfill`",
    SCORES: "score a task of one of these dates first",
    ITEMS: "land items of a day before {day}",
    **dict.fromkeys((TAGS, RFM, AIPL), "build it with `usergrowth tags run --date {day}`"),
}
_SCORED = {
    "ds": "DATE",
    "task_id": "VARCHAR",
    "user_id": "VARCHAR",
    "score": "DOUBLE",
    "model_name": "VARCHAR",
}


@dataclass(frozen=True)
class Bound:
    """The inputs of a segment in an engine.

    Attributes:
        inputs: what the compiler may name.
        everybody: people known as of the date.
        fingerprint: hash of the data files, uploads and snapshots that are read.
        versions: version of each table that is read.
        notes: sentences about what is left out.
        files: data files that are read when the statement runs; an engine needs no others.
    """

    inputs: Inputs
    everybody: int
    fingerprint: str
    versions: dict[str, int]
    notes: tuple[str, ...]
    files: tuple[str, ...]


def bind_inputs(
    engine: Engine,
    project: Project,
    named: Named,
    day: date,
    *,
    kept: Mapping[str, str] | None = None,
) -> Bound:
    """Bind what a segment reads, under the tables' own names.

    Args:
        engine: where it is bound.
        project: the home.
        named: the segment.
        day: the execution date.
        kept: by path of a leaf whose people are known already, the relation with them; a table that
            such leaves alone read is not bound, and counts in the fingerprint all the same.

    Raises:
        UserError: a table, a snapshot or a file that it needs is not there.
    """
    marks: list[str] = []
    notes: list[str] = []
    versions: dict[str, int] = {}
    opened: list[str] = []
    columns: dict[str, dict[str, str]] = {}
    known_days = project.settings.history_days
    read = tables_of(named.segment, day, known_days, without=kept or ())
    for table, back in sorted(tables_of(named.segment, day, known_days).items()):
        first, last = _span(project, table, day, back)
        files = _files(project, table, first, last)
        if not files and table not in (DAYS, EVENTS):
            raise _not_ready(named, table, first, last)
        if table in read:
            columns[table] = _bind(engine, project, table, files)
            opened += files
        marks.append(f"{table}:{files_fingerprint(files)}")
        versions[table] = project.warehouse.version(table) or 0
    everybody = sum(project.warehouse.row_counts(FEATURES, first=day, last=day).values())
    people: dict[str, str] = {}
    for place, (at, leaf) in enumerate(named.segment.leaves()):
        name = f"people_{place}"
        notes += _cut(leaf, at, day)
        if isinstance(leaf, Member):
            mark, members = _bind_segment(engine, project, named, at, leaf, day, name)
            marks.append(mark)
            opened += members
        elif isinstance(leaf, Upload):
            mark, note = _bind_upload(engine, project, named, at, leaf, day, name)
            marks.append(mark)
            notes.append(note)
        elif isinstance(leaf, Score):
            of_question = f"{named.origin}: {at}.question"
            bind_scores(engine, of_question, leaf.question, leaf.max_age_days, day, name)
        else:
            continue
        people[at] = name
    notes += _tag_notes(project, named, day)
    digest = hashlib.sha256("\n".join(marks).encode()).hexdigest()[:16]
    inputs = Inputs(columns, known_days, people, kept or {})
    return Bound(inputs, everybody, digest, versions, tuple(notes), tuple(opened))


def _tag_notes(project: Project, named: Named, day: date) -> list[str]:
    """What people should know of the tags that a segment reads: stale ones, sensitive ones."""
    read = {leaf.key for _, leaf in named.segment.leaves() if isinstance(leaf, Tagged)}
    path = project.settings.home / TAGS_FILE
    if not read or not path.exists():
        return []
    try:
        tags = [tag for tag in read_catalogue(path).tags if tag.key in read]
    except UserError as error:  # the values that stand can be read all the same
        return [f"whether a tag is stale is not known: {error}"]
    sensitive = [
        f"tag {tag.key} is sensitive: who is in the segment says something of it"
        for tag in tags
        if tag.sensitivity == "sensitive"
    ]
    return [*stale_tags(project, tags, day), *sensitive]


def _cut(leaf: Leaf, at: str, day: date) -> list[str]:
    """A sentence on a window whose end is not over; none of another leaf."""
    window: object = leaf
    if isinstance(leaf, Lifecycle):
        window, at = leaf.first_seen, f"{at}.first_seen"
    note = cut_note(window, at, day) if isinstance(window, Window) else ""
    return [note] if note else []


@dataclass(frozen=True)
class BoundTable:
    """A table that is bound as of a date: its version, and the fingerprint of its files."""

    version: int
    fingerprint: str


def bind_everybody(engine: Engine, project: Project, named: Named, day: date) -> BoundTable:
    """Bind ``user_features`` as of a date.

    Raises:
        UserError: it has nothing for the date.
    """
    return bind_table(engine, project, named, FEATURES, day)


def _days(table: str, day: date, back: int) -> tuple[date, date]:
    """First and last day that is read of a table; of events nothing of D itself."""
    if table in (DAYS, EVENTS):
        return day - timedelta(days=back), day - timedelta(days=1)
    return (day - timedelta(days=back) if table in (AIPL, SCORES) else day), day


def tables_mark(project: Project, segment: Segment, day: date) -> str:
    """Hash of the data files of the tables that a tree reads, with no more days than it reads."""
    parts = []
    for table, back in sorted(tables_of(segment, day, project.settings.history_days).items()):
        first, last = _span(project, table, day, back)
        parts.append(f"{table}:{files_fingerprint(_files(project, table, first, last))}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _span(project: Project, table: str, day: date, back: int) -> tuple[date, date]:
    """First and last day that is read of a table."""
    return _newest(project, day) if table == ITEMS else _days(table, day, back)


def _newest(project: Project, day: date) -> tuple[date, date]:
    """The newest landed day of items before the date; the day before it where none has landed."""
    before = day - timedelta(days=1)
    known = project.warehouse.exists(ITEMS)
    days = project.warehouse.row_counts(ITEMS, last=before) if known else {}
    newest = max((one for one, rows in days.items() if rows), default=before)
    return newest, newest


def _files(project: Project, table: str, first: date, last: date) -> list[str]:
    if not project.warehouse.exists(table):
        return []
    days = project.warehouse.files(table, first=first, last=last)
    return [path for _, paths in sorted(days.items()) for path in paths]


def _bind(engine: Engine, project: Project, table: str, files: Iterable[str]) -> dict[str, str]:
    import pyarrow as pa

    files = list(files)
    if not project.warehouse.exists(table):  # of events: nothing has landed yet
        columns = (
            {"ds": "DATE", "user_id": "VARCHAR", "events": "DOUBLE"}
            | dict.fromkeys(("kinds", "amounts"), "MAP(VARCHAR, DOUBLE)")
            | {"behavior": "VARCHAR", "item_id": "VARCHAR", "kvs_str": "MAP(VARCHAR, VARCHAR)"}
        )
    else:
        columns = duckdb_types(engine, pa.schema(project.warehouse.open(table).schema().to_arrow()))
    engine.bind_files(table, files, columns)
    return columns


def _not_ready(named: Named, table: str, first: date, last: date) -> UserError:
    span = str(last) if first == last else f"{first} to {last}"
    build = _BUILD.get(table, "build it first").format(day=last)
    return UserError(
        f"{named.origin}: the table {table} has nothing for {span}; {build}",
        code="segment.not_ready",
    )


def _bind_segment(
    engine: Engine, project: Project, named: Named, at: str, leaf: Member, day: date, name: str
) -> tuple[str, Sequence[str]]:
    """Bind the people of another segment; its mark, and its data files."""
    known = good(read_snapshots(engine, project.warehouse, leaf.name), until=day)
    if leaf.snapshot is not None:
        known = [one for one in known if one.snapshot == leaf.snapshot]
    if not known:
        which = f"snapshot {leaf.snapshot!r}" if leaf.snapshot else "snapshot"
        raise UserError(
            f"{named.origin}: {at}: segment {leaf.name} has no {which} up to {day}; refresh it "
            f"first with `usergrowth segment refresh {leaf.name} --date {day}`",
            code="segment.not_ready",
        )
    members = bind_members(engine, project.warehouse, known[-1])
    engine.run(f"create view {name} as select user_id from {members}")
    mark = f"{leaf.name}:{known[-1].snapshot}:{files_fingerprint(members.files)}"
    return mark, members.files


def upload_path(home: Path, leaf: Upload) -> Path:
    """The file of an upload."""
    return home / FOLDER / leaf.file


def upload_hash(home: Path, leaf: Upload) -> str:
    """SHA-256 of a file of user ids; empty where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with upload_path(home, leaf).open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()


def _bind_upload(
    engine: Engine, project: Project, named: Named, at: str, leaf: Upload, day: date, name: str
) -> tuple[str, str]:
    """Bind the people of a file; its mark, and what became of its lines."""
    import duckdb

    path = upload_path(project.settings.home, leaf)
    digest = upload_hash(project.settings.home, leaf)
    if not digest:
        raise UserError(
            f"{named.origin}: {at}.file: {leaf.file} is not there or cannot be read; put the file "
            f"into {path.parent}",
            code="segment.not_ready",
        )
    source = f"read_csv({file_literal(str(path))}, header=true, all_varchar=true, delim=',')"
    try:
        if "user_id" not in engine.describe(f"select * from {source}"):
            raise UserError(
                f"{named.origin}: {at}.file: {leaf.file} has no column user_id in its first line",
                code="segment.invalid",
            )
        engine.run(
            f"create temp table {name}_lines as select trim(user_id) as user_id from {source}"
        )
    except duckdb.Error:  # its message repeats the line
        raise UserError(
            f"{named.origin}: {at}.file: {leaf.file} cannot be read as CSV with commas; every line "
            "needs as many cells as the first one",
            code="segment.invalid",
        ) from None
    engine.run(
        f"create temp table {name} as select distinct user_id from {name}_lines where user_id <> ''"
    )
    lines, people, known = engine.rows(
        f"select (select count(*) from {name}_lines), count(*), "
        f"count(*) filter (where user_id in (select user_id from {FEATURES})) from {name}"
    )[0]
    note = (
        f"{leaf.file}: {lines:,} lines are {people:,} people, of whom {people - known:,} are not "
        f"known as of {day}"
    )
    return f"{leaf.file}:{digest}", note


def bind_table(
    engine: Engine, project: Project, named: Named, table: str, day: date, back: int = 0
) -> BoundTable:
    """Bind a table as of a date under its own name, as the conditions of a tree read it.

    Args:
        engine: where it is bound.
        project: the home.
        named: the segment, for the error.
        table: a table of execution dates.
        day: the execution date.
        back: days before the date that are read too.

    Raises:
        UserError: it has nothing for these dates.
    """
    first, last = day - timedelta(days=back), day
    files = _files(project, table, first, last)
    if not files:
        raise _not_ready(named, table, first, last)
    _bind(engine, project, table, files)
    return BoundTable(project.warehouse.version(table) or 0, files_fingerprint(files))


def bind_scores(
    engine: Engine, place: str, question: str, max_age_days: int, day: date, name: str
) -> None:
    """Bind the best score of each user on the newest date with any, and its tenth.

    Args:
        engine: holds the table of scores.
        place: file and key path of the question, for the error.
        question: the question.
        max_age_days: scores of so many days before the execution date may be used.
        day: the execution date.
        name: of the table: ``user_id``, ``score``, ``decile`` and ``ds``.

    Raises:
        UserError: there are no such scores.
    """
    engine.run(f"""
        create temp table {name} as
        with scored as (
            select ds, user_id, max(score) as score from {SCORES}
            where model_name = {literal(question)} and score is not null
                and ds >= date {literal(str(day - timedelta(days=max_age_days)))}
            group by ds, user_id
        ), newest as (
            select user_id, score, ds from scored qualify ds = max(ds) over ()
        )
        select user_id, score, ntile(10) over (order by score desc, user_id) as decile, ds
        from newest
        """)
    if not engine.value(f"select count(*) from {name}"):
        raise UserError(
            f"{place}: no scores of {question!r} in the {max_age_days} days up to {day}; "
            "score a task first, or raise max_age_days",
            code="segment.not_ready",
        )
