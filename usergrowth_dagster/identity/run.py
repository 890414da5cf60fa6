"""Identity of an execution date: of all links that landed before it, with the names of before.

Dates go forward: the names of a date come from those of the date before. So a date before the
newest one is not made again with other links; the newest one takes all links in.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date, timedelta
from typing import Any, Literal

from usergrowth_dagster.data.contracts import IDENTITY
from usergrowth_dagster.data.landing import landing_folders
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.identity.definition import Identity, read_identity
from usergrowth_dagster.identity.links import LINKS, RAW, Keys, bind_links, drop_links
from usergrowth_dagster.identity.partition import EDGES, Partition, partition
from usergrowth_dagster.identity.people import Changes, name_people
from usergrowth_dagster.identity.rows import (
    conflicts_sql,
    history_sql,
    left_out,
    one_id_sql,
    sizes,
)
from usergrowth_dagster.identity.tables import (
    CONFLICTS,
    HISTORY,
    ONE_ID,
    ONE_ID_COLUMNS,
)
from usergrowth_dagster.intake.forgotten import forgotten_people
from usergrowth_dagster.messaging.people.phones import PhoneVault, open_vault
from usergrowth_dagster.project import Project
from usergrowth_dagster.sources.definition import FILE_NAME as SOURCES_FILE
from usergrowth_dagster.sources.definition import read_sources
from usergrowth_dagster.sources.land import land_source
from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.landing import LandedDay, land_days, row_stream

VERSION = 1
"""Raised when the same links would give other rows."""

MEMORY_SHARE = 0.4
"""DuckDB's part of ``memory_limit``: the components and the writer of files need the rest."""


@dataclass(frozen=True)
class Identified:
    """What was made of the links of an execution date.

    Attributes:
        execution_date: the date.
        state: made now; unchanged (the same links, types and names before); nothing (no links);
            kept or, if it was never made, left_out: a later date is made, which takes links in.
        rows: landed rows before the date.
        ids: ids of all types, users among them.
        links: links that join a user and an id.
        persons: persons.
        hubs: ids that too many users have.
        refused: links that would join two values of a unique type.
        left_out: landed rows that link nobody, by reason.
        created: persons that are new.
        merged: old persons that became part of another.
        split: parts of old persons that are persons of their own now.
        gone: old persons none of whose ids is there any more.
        sizes: persons by how many user ids they have.
    """

    execution_date: date
    state: Literal["made", "unchanged", "nothing", "kept", "left_out"]
    rows: int = 0
    ids: int = 0
    links: int = 0
    persons: int = 0
    hubs: int = 0
    refused: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    created: int = 0
    merged: int = 0
    split: int = 0
    gone: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """All of that in one sentence."""
        if self.state == "nothing":
            return f"identity of {self.execution_date}: no row of identity/ landed before it"
        if self.state == "left_out":
            return f"identity of {self.execution_date}: not made, since a later date is made"
        stayed = "".join(f"; {n:,} rows left out: {reason}" for reason, n in self.left_out.items())
        heads = {"unchanged": "nothing new, ", "kept": "kept as it was, as a later date is made: "}
        head = heads.get(self.state, "")
        return (
            f"identity of {self.execution_date}: {head}{self.persons:,} persons of {self.ids:,} "
            f"ids by {self.links:,} links; {self.created:,} created, {self.merged:,} merged, "
            f"{self.split:,} split, {self.gone:,} gone{stayed}"
        )


def land_sources(project: Project) -> list[str]:
    """Land the sources that fill identity/; what of them does not land, a sentence each.

    Raises:
        UserError: sources.yml breaks its format, or a source cannot be read.
    """
    path = project.settings.home / SOURCES_FILE
    notices: list[str] = []
    if not path.exists():
        return notices
    for source in read_sources(path):
        if source.fills == IDENTITY:
            landing = land_source(
                *(project.settings, project.landing, project.state, source, project.settings.home),
                forgotten=forgotten_people(project),
            )
            notices += [f"source {source.name}: {note}" for note in landing.notes()]
    return notices


def land_identity(project: Project, day: date) -> list[LandedDay]:
    """Land the files of identity/ of all days before an execution date.

    Raises:
        LandingError: days failed; the others have landed.
    """
    days = [one for one in landing_folders(project.landing, IDENTITY).days if one < day]
    return land_days(
        project.settings,
        project.landing,
        project.warehouse,
        IDENTITY,
        days,
        forgotten=forgotten_people(project),
        progress=project.progress,
    )


def identify(project: Project, day: date) -> Identified:
    """Make the tables of identity of an execution date, unless they are of the same links.

    Args:
        project: the home.
        day: the execution date.

    Raises:
        UserError: identity.yml breaks its format; or a later date is made and this one would be
            another than it was.
    """
    identity = read_identity(project.settings.home)
    with project.alone("identity"):
        files = landed_files(project, day)
        if not files:
            return Identified(day, "nothing")
        vault = open_vault(project.settings.home, project.settings.default_country)
        marks = project.warehouse.fingerprints(ONE_ID)
        before = max((one for one in marks if one < day), default=None)
        mark = _fingerprint(project, identity, vault, files, before)
        if marks.get(day) == mark:
            return _as_noted(project, day)
        if (newest := max(marks, default=day)) > day:
            raise UserError(
                f"identity of {day}: its links are others than those that it was made of, and "
                f"{newest} is made already; run {newest} or a later date, which takes all of them",
                code="identity.older",
            )
        return _make(project, identity, vault, files, day, before, mark)


def identify_or_keep(project: Project, day: date) -> Identified:
    """As :func:`identify`, but a date before the newest one is left as it is and says so.

    So a date of the past can be decided again although links of before it have landed since.

    Raises:
        UserError: identity.yml breaks its format.
    """
    try:
        return identify(project, day)
    except UserError as error:
        if error.code != "identity.older":
            raise
    if day not in project.warehouse.fingerprints(ONE_ID):
        return Identified(day, "left_out")
    return replace(_as_noted(project, day), state="kept")


def newest_day(project: Project, day: date | None) -> date:
    """The newest date whose persons are made; or a date, if it is made.

    Raises:
        UserError: it is not.
    """
    made = project.warehouse.fingerprints(ONE_ID)
    if not made or (day is not None and day not in made):
        option = "" if day is None else f" --date {day}"
        raise UserError(
            f"the persons of {day or 'any date'} are not made yet; "
            f"run usergrowth identity run{option}",
            code="identity.not_made",
        )
    return day or max(made)


def landed_files(project: Project, day: date) -> list[str]:
    """Data files of the rows that landed before an execution date."""
    by_day = project.warehouse.files(RAW, last=day - timedelta(days=1))
    return [path for paths in by_day.values() for path in paths]


def _fingerprint(
    project: Project,
    identity: Identity,
    vault: PhoneVault,
    files: list[str],
    before: date | None,
) -> str:
    """Hash of the links' files, the types, the country of numbers, the key, and the names before.

    Files have names of their own content.
    """
    parts = (
        VERSION,
        identity.model_dump(mode="json"),
        project.settings.default_country,
        project.settings.reads_fictional,
        vault.hash_id.hex(),
        sorted(path.rsplit("/", 1)[-1] for path in files),
        sorted(path.rsplit("/", 1)[-1] for path in _files_of(project, before)),
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _files_of(project: Project, before: date | None) -> list[str]:
    """Data files of the names of an earlier date."""
    if before is None:
        return []
    return project.warehouse.files(ONE_ID, first=before, last=before).get(before, [])


def _as_noted(project: Project, day: date) -> Identified:
    noted = project.warehouse.notes(ONE_ID, first=day, last=day)[day]
    return Identified(day, "unchanged", **noted)


def _make(
    project: Project,
    identity: Identity,
    vault: PhoneVault,
    files: list[str],
    day: date,
    before: date | None,
    mark: str,
) -> Identified:
    with open_engine(project.settings, MEMORY_SHARE) as engine:
        bind_links(engine, identity, Keys.of(vault), files, day)
        found = partition(engine, identity)
        rows = _check_rows(engine, day)
        drop_links(engine)
        old = _files_of(project, before)
        engine.bind_files("identity_before", old, types_of(ONE_ID_COLUMNS))
        changes = name_people(engine, identity, day, "identity_before")
        made = _summary(engine, day, rows, found, changes)
        _write(project, engine, identity, made, mark)
        return made


def _check_rows(engine: Engine, day: date) -> int:
    """Every landed row is in a link, and every link that may join is an edge; returns the rows.

    Raises:
        RuntimeError: rows were lost or made up on the way; a fault of the product.
    """
    landed, linked, edges, joined = engine.rows(f"""
        select (select count(*) from {RAW} where ds < date '{day}'),
            (select coalesce(sum(rows), 0) from {LINKS}),
            (select coalesce(sum(rows), 0) from {LINKS} where reason is null),
            (select coalesce(sum(rows), 0) from {EDGES})
    """)[0]
    if landed != linked or edges != joined:
        raise RuntimeError(
            f"identity of {day}: {landed} rows landed, {linked} are in links, {edges} may join and "
            f"{joined} are edges"
        )
    return int(landed)


def _summary(
    engine: Engine, day: date, rows: int, found: Partition, changes: Changes
) -> Identified:
    return Identified(
        execution_date=day,
        state="made",
        rows=rows,
        ids=found.nodes,
        links=found.links,
        persons=found.persons,
        hubs=found.hubs,
        refused=found.refused,
        left_out=left_out(engine),
        created=changes.created,
        merged=changes.merged,
        split=changes.split,
        gone=changes.gone,
        sizes=sizes(engine),
    )


def _write(
    project: Project, engine: Engine, identity: Identity, made: Identified, mark: str
) -> None:
    """Write the tables; ``one_id`` last, since its fingerprint says that the date is made."""
    day = made.execution_date
    note: dict[str, Any] = asdict(made)
    del note["execution_date"], note["state"]

    def put(table: str, sql: str, notes: Mapping[date, Mapping[str, Any]] | None) -> None:
        stream = row_stream(engine, sql)
        project.warehouse.replace(table, stream, days=[day], fingerprints={day: mark}, notes=notes)

    put(HISTORY, history_sql(day), None)
    put(CONFLICTS, conflicts_sql(identity, day), None)
    # drops what the others read
    put(ONE_ID, one_id_sql(engine, identity, day), {day: note})
