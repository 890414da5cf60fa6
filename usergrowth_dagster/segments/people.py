"""The people of a segment as of an execution date, in an engine."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.segments.compile import FEATURES, SCORES, compile_segment, sampled_people
from usergrowth_dagster.segments.definition import Named
from usergrowth_dagster.segments.groups.checks import GroupCheck, GroupFailedError
from usergrowth_dagster.segments.groups.people import bind_group
from usergrowth_dagster.segments.groups.rows import check_rows
from usergrowth_dagster.segments.groups.tables import table_sql
from usergrowth_dagster.segments.inputs import bind_everybody, bind_inputs, bind_table
from usergrowth_dagster.segments.kept_leaves import KeptLeaves
from usergrowth_dagster.segments.limits import limited
from usergrowth_dagster.segments.select import bind_selected, check_select
from usergrowth_dagster.segments.sizes import Estimate, estimate, sample_share
from usergrowth_dagster.sql_shell.shell import lock
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.relation import Relation, bind_query


@dataclass(frozen=True)
class People:
    """Who matches.

    Attributes:
        members: relation with ``user_id``, each once.
        fingerprint: hash of all inputs.
        versions: version of each table, and hash of each upload, that was read.
        notes: sentences about what is left out.
        check: what became of the rows of a source; None of a segment without one.
    """

    members: Relation
    fingerprint: str
    versions: Mapping[str, int | str]
    notes: tuple[str, ...]
    check: GroupCheck | None = None


def bind_people(engine: Engine, project: Project, named: Named, day: date) -> People:
    """Work out who is in a segment.

    Args:
        engine: a fresh one; holds the people afterwards.
        project: the home.
        named: the segment.
        day: the execution date.

    Raises:
        UserError: an input is missing, a name is unknown, or a limit is reached.
    """
    if named.segment.select is not None:
        people = _selected(engine, project, named, day)
    elif named.segment.source is not None:
        people = _of_source(engine, project, named, day)
    else:
        people = _matching(engine, project, named, day)
    matches = engine.value(f"select count(*) from {people.members}")
    most = project.settings.segment_rows
    if matches > most:
        raise UserError(
            f"{named.origin}: {matches:,} people match, and the setting segment_rows allows "
            f"{most:,}",
            code="segment.too_large",
        )
    return people


def _matching(engine: Engine, project: Project, named: Named, day: date) -> People:
    """The people of a tree; those of its leaves of events are kept for the next one.

    The tree runs as a SELECT does: in an engine of its own, with locked settings, that may open
    no file but those that it reads.
    """
    with open_engine(project.settings) as locked:
        leaves = KeptLeaves(locked, project, named, day)
        bound = bind_inputs(locked, project, named, day, kept=leaves.bind_kept())
        compile_segment(named.segment, named.origin, day, bound.inputs)  # its errors name the path
        lock(locked, bound.files)
        try:
            with limited(project.settings, [locked]):
                inputs = replace(bound.inputs, kept=leaves.fill(bound.inputs))
                statement = compile_segment(named.segment, named.origin, day, inputs)
                locked.run(f"create temp table matching as {statement}")
        except UserError as error:
            raise UserError(f"{named.origin}: where: {error}", code=error.code) from None
        engine.connection.register("_matching", locked.stream("select user_id from matching"))
        members = bind_query(engine, "members", "select user_id from _matching", keep=True)
        engine.connection.unregister("_matching")
    return People(members, bound.fingerprint, bound.versions, bound.notes)


def _selected(engine: Engine, project: Project, named: Named, day: date) -> People:
    """The people of a SELECT who are known as of the date."""
    everybody = bind_everybody(engine, project, named, day)
    selected = bind_selected(engine, project, named, day)
    members = bind_query(
        engine,
        "members",
        f"select user_id from {selected.people} where user_id in (select user_id from {FEATURES})",
        keep=True,
    )
    given, kept = (
        engine.value(f"select count(*) from {one}") for one in (selected.people, members)
    )
    strangers = f"{given - kept:,} of {given:,} people of the SELECT are not known as of {day}"
    notes = (*selected.notes, *([strangers] if given > kept else []))
    versions = {**selected.versions, FEATURES: everybody.version}
    return People(members, f"{selected.fingerprint}:{everybody.fingerprint}", versions, notes)


def _of_source(engine: Engine, project: Project, named: Named, day: date) -> People:
    """The people of a source, within the limit of time."""
    try:
        with limited(project.settings, [engine]):
            group = bind_group(engine, project, named, day)
    except GroupFailedError:
        raise
    except UserError as error:
        sentence = str(error)
        if not sentence.startswith(f"{named.origin}: "):
            sentence = f"{named.origin}: {sentence}"
        raise UserError(sentence, code=error.code) from None
    return People(group.members, group.fingerprint, group.versions, group.notes, group.check)


def estimate_people(engine: Engine, project: Project, named: Named, day: date) -> Estimate | None:
    """The size of a segment by a sample of everybody, drawn by a hash.

    Args:
        engine: a fresh engine.
        project: the home.
        named: the segment.
        day: the execution date.

    Returns:
        None of a SELECT or a source, and where so few people are known that all are counted at
        once.

    Raises:
        UserError: as :func:`bind_people`.
    """
    if named.segment.where is None:
        return None
    kept = KeptLeaves(engine, project, named, day).bind_kept()
    bound = bind_inputs(engine, project, named, day, kept=kept)
    share = sample_share(bound.everybody)
    if share is None:
        return None
    matching = compile_segment(named.segment, named.origin, day, bound.inputs, sample=share)
    lock(engine, bound.files)
    with limited(project.settings, [engine]):
        matches, sampled = (
            engine.value(f"select count(*) from ({sql})")
            for sql in (matching, sampled_people(named.origin, day, share))
        )
    return estimate(matches, sampled, bound.everybody) if sampled else None


def check_people(
    engine: Engine, project: Project, named: Named, day: date
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Bind a segment's statement without running it.

    Returns:
        The tables that it reads, and sentences about what is left out.

    Raises:
        UserError: as :func:`bind_people`.
    """
    if named.segment.select is not None:
        bind_everybody(engine, project, named, day)
        return tuple(sorted({FEATURES, *check_select(project, named, day)})), ()
    if named.segment.source is not None:
        return _check_source(engine, project, named, day)
    bound = bind_inputs(engine, project, named, day)
    engine.describe(compile_segment(named.segment, named.origin, day, bound.inputs))
    return tuple(sorted(bound.versions)), bound.notes


def _check_source(
    engine: Engine, project: Project, named: Named, day: date
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """See that a source can be read; none of its rows is."""
    source = named.segment.source
    assert source is not None
    bind_everybody(engine, project, named, day)
    try:
        check_rows(project, source)
    except UserError as error:
        raise UserError(f"{named.origin}: {error}", code=error.code) from None
    if source.table is not None:
        _, note = table_sql(project, named, day)
        return tuple(sorted({FEATURES, source.table})), (note,)
    if source.algorithm is not None:
        bind_table(engine, project, named, SCORES, day, source.max_age_days)
        return (SCORES, FEATURES), ()
    return (FEATURES,), ()
