"""The daily snapshot: devices of the users that landed, whether these are active, and their scores.

Devices are the rows of the landing table ``identity`` of all days before the execution date whose
type acquisition.yml names. Several users of one device count as one: it is active when one of them
is, and has the highest of their scores.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from usergrowth_dagster.acquisition.definition import FILE_NAME, Acquisition, read_acquisition
from usergrowth_dagster.acquisition.devices import KINDS, NO_ID, Kind
from usergrowth_dagster.acquisition.snapshot import (
    ACTIVE,
    Column,
    Snapshot,
    current_name,
    write_snapshot,
)
from usergrowth_dagster.data.contracts import CONTRACTS, IDENTITY
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.identity.run import land_identity
from usergrowth_dagster.pipeline.score import SCORE_COLUMNS, SCORES
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal, literals
from usergrowth_dagster.segments.files import segment_named
from usergrowth_dagster.segments.snapshots import bind_members, read_snapshots
from usergrowth_dagster.segments.standing import newest_of
from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.relation import Relation, bind_days, bind_files

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "acquisition"
"""Folder of a home with its snapshots."""

ACTIVITY = "user_day"
RAW = CONTRACTS[IDENTITY].raw_table


@dataclass(frozen=True)
class Built:
    """A snapshot that was written.

    Attributes:
        execution_date: the date that it is as of.
        name: of its file.
        devices: ids by kind.
        active: of these, those of active users.
        scored: of these, those with a score.
    """

    execution_date: date
    name: str
    devices: Mapping[Kind, int]
    active: int
    scored: int

    @property
    def sentence(self) -> str:
        """All of that in one sentence."""
        return (
            f"{self.execution_date}: {sum(self.devices.values()):,} ids, {self.active:,} of active "
            f"users and {self.scored:,} with a score, are in {self.name}"
        )


def snapshot_folder(project: Project) -> Path:
    """Where a home's snapshots are."""
    return project.settings.home / FOLDER


def snapshot_state(project: Project) -> str:
    """What the snapshot that answers holds, in words.

    Raises:
        UserError: acquisition.yml breaks its format; or the snapshot is damaged or too old.
    """
    policy = read_acquisition(project.settings.home / FILE_NAME)
    folder = snapshot_folder(project)
    name = current_name(folder)
    if name is None:
        return "no snapshot yet; usergrowth rta snapshot makes it"
    snapshot = Snapshot(folder / name)
    age = (project.settings.current_date() - snapshot.day).days
    if age >= policy.stale_after_days:
        raise UserError(
            f"the snapshot of devices is of {snapshot.day}, and stale_after_days is "
            f"{policy.stale_after_days}: strategies do as on_failure says; run usergrowth rta "
            "snapshot, and turn on the sensor acquisition_after_decide",
            code="acquisition.snapshot_stale",
        )
    return f"{sum(snapshot.rows.values()):,} ids as of {snapshot.day}"


def build_snapshot(project: Project, day: date) -> Built:
    """Land identity/ and write the snapshot of a date; it answers unless a later one does.

    Raises:
        UserError: acquisition.yml breaks its format, a landing file cannot be read, no row of
            identity/ has landed before the date, or the segment has no snapshot.
    """
    policy = read_acquisition(project.settings.home / FILE_NAME)
    land_identity(project, day)
    by_day = project.warehouse.files(RAW, last=day - timedelta(days=1))
    files = [path for paths in by_day.values() for path in paths]
    if not files:
        raise UserError(
            f"no rows of {IDENTITY}/ have landed before {day}, and devices come from there",
            code="acquisition.no_devices",
        )
    with project.alone(FOLDER), open_engine(project.settings) as engine:
        raw = bind_files(engine, RAW, files, CONTRACTS[IDENTITY].raw_types())
        engine.run(f"create table devices as {_devices_sql(engine, project, policy, raw, day)}")
        columns = {kind: column for kind in KINDS if len((column := _column(engine, kind)).keys)}
        path = write_snapshot(snapshot_folder(project), day, columns)
        counts = engine.rows("select count(*) filter (where active), count(score) from devices")
    rows = {kind: len(column.keys) for kind, column in columns.items()}
    return Built(day, path.name, rows, *counts[0])


def _devices_sql(
    engine: Engine, project: Project, policy: Acquisition, raw: Relation, day: date
) -> str:
    """The rows (kind, key, active, score), one a device."""
    users = _active_users(engine, project, policy, day)
    return f"""
        with ids as ({ids_sql(policy, str(raw))}),
        active as (select distinct user_id from {users}),
        scored as ({_scores_sql(engine, project, policy, day)})
        select kind, cast('0x' || left(md5, 16) as ubigint) as key,
            bool_or(active.user_id is not null) as active, cast(max(score) as float) as score
        from ids left join active using (user_id) left join scored using (user_id)
        group by kind, key
    """


def _active_users(engine: Engine, project: Project, policy: Acquisition, day: date) -> Relation:
    """Who is a user already, by activity before the date or by a segment's snapshot up to it.

    Raises:
        UserError: there is no such segment, or it has no snapshot up to the date.
    """
    name = policy.active_segment
    if name is None:
        first = day - timedelta(days=policy.active_days)
        days = [one for one in project.warehouse.days(ACTIVITY) if first <= one < day]
        return bind_days(engine, project.warehouse, ACTIVITY, days, {"user_id": "VARCHAR"})
    named = segment_named(project.settings.home, name)
    newest = newest_of(named.segment, read_snapshots(engine, project.warehouse, name), day)
    if newest is None:
        raise UserError(
            f"{FILE_NAME}: active_segment: {name} has no snapshot up to {day}; run usergrowth "
            f"segment refresh {name} --date {day}",
            code="segment.not_ready",
        )
    return bind_members(engine, project.warehouse, newest)


def ids_sql(policy: Acquisition, raw: str) -> str:
    """The rows (user_id, kind, md5) of the landed ids of devices, as exchanges hash them."""
    parts = []
    for name, form in policy.ids.items():
        plain = {"idfa": "upper(id_value)", "imei": "lower(id_value)"}.get(form.kind, "id_value")
        md5 = "lower(id_value)" if form.hashed else f"md5({plain})"
        parts.append(
            f"select user_id, {literal(form.kind)} as kind, {md5} as md5 from {raw} "
            f"where id_type = {literal(name)}"
        )
    return (
        f"select distinct * from ({' union all '.join(parts)}) "
        f"where regexp_full_match(md5, '[0-9a-f]{{32}}') and md5 not in ({literals(NO_ID)})"
    )


def _scores_sql(engine: Engine, project: Project, policy: Acquisition, day: date) -> str:
    """The rows (user_id, score) of the newest date that is not too old; none without a question."""
    score = policy.score
    days = project.warehouse.days(SCORES) if score is not None else []
    if score is not None:
        first = day - timedelta(days=score.max_age_days)
        days = [one for one in days if first <= one <= day]
    scores = bind_days(engine, project.warehouse, SCORES, days, types_of(SCORE_COLUMNS))
    question = literal(score.question if score is not None else "")
    of_question = f"(select * from {scores} where model_name = {question})"
    return (
        f"select user_id, max(score) as score from {of_question} "
        f"where ds = (select max(ds) from {of_question}) and isfinite(score) group by user_id"
    )


def _column(engine: Engine, kind: Kind) -> Column:
    """The devices of a kind, their keys rising."""
    import numpy as np

    read: pa.Table = engine.stream(
        "select key, coalesce(score, 'nan'::float) as score, "
        f"cast(if(active, {ACTIVE}, 0) as utinyint) as flags from devices "
        f"where kind = {literal(kind)} order by key"
    ).read_all()
    arrays = (read.column(name).to_numpy() for name in ("key", "score", "flags"))
    types = (np.uint64, np.float32, np.uint8)
    return Column(*(array.astype(dtype) for array, dtype in zip(arrays, types, strict=True)))
