"""The people of a group: its source read, checked row by row, and met with users."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

from sqlalchemy import select

from usergrowth_dagster.control import schema
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.policy.suppression import FORGOTTEN
from usergrowth_dagster.project import Project
from usergrowth_dagster.segments.compile import FEATURES
from usergrowth_dagster.segments.definition import Named
from usergrowth_dagster.segments.groups.checks import (
    COUNTED_ONLY,
    KEPT_ERRORS,
    LEFT_OUT,
    RULES,
    GroupCheck,
    GroupFailedError,
    RowError,
    begin,
)
from usergrowth_dagster.segments.groups.files import content_mark
from usergrowth_dagster.segments.groups.numbers import bind_numbers, bind_owners
from usergrowth_dagster.segments.groups.rows import ROWS, bind_rows, read_numbers
from usergrowth_dagster.segments.groups.source import Source, mask_value
from usergrowth_dagster.segments.groups.tables import bind_algorithm, bind_table_people
from usergrowth_dagster.segments.inputs import bind_everybody
from usergrowth_dagster.segments.sizes import bind_addresses
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_query

OUTCOMES = "group_outcomes"
"""Table of each row: ``line``, ``value``, ``rule`` (NULL of a member), ``user_id`` of a member."""


@dataclass(frozen=True)
class GroupPeople:
    """The people of a group.

    Attributes:
        members: ``user_id``, each once.
        fingerprint: hash of all inputs.
        versions: version of each table that was read.
        notes: sentences about what is left out.
        check: what became of each row.
    """

    members: Relation
    fingerprint: str
    versions: Mapping[str, int]
    notes: tuple[str, ...]
    check: GroupCheck


def bind_group(engine: Engine, project: Project, named: Named, day: date) -> GroupPeople:
    """Read the source of a group, check its rows, and find its people.

    Args:
        engine: a fresh one; holds the people afterwards.
        project: the home.
        named: a segment with ``source``.
        day: the execution date.

    Raises:
        GroupFailedError: too many rows are wrong, or nobody of them is known.
        UserError: the source cannot be read; names file and key.
    """
    source = named.segment.source
    assert source is not None
    everybody = bind_everybody(engine, project, named, day)
    uploads = bind_numbers(engine, project, day)
    marks = [everybody.fingerprint, uploads.fingerprint, _reading(project, source)]
    versions = {FEATURES: everybody.version}
    if source.is_list:
        notes = bind_rows(engine, project, source)
        owners = _judge(engine, project, source, uploads, day)
        marks += [*content_mark(project, source).values(), owners]
    else:
        bind = bind_table_people if source.table is not None else bind_algorithm
        given = bind(engine, project, named, day)
        notes, versions = given.notes, {**versions, **given.versions}
        marks.append(given.fingerprint)
        _judge_given(engine, given.people, uploads)
    members = bind_query(
        engine, "members", f"select user_id from {OUTCOMES} where rule is null", keep=True
    )
    check = _checked(engine, project, named, day, members)
    digest = hashlib.sha256("\n".join(marks).encode()).hexdigest()[:16]
    return GroupPeople(members, digest, versions, (*notes, check.sentence), check)


def _reading(project: Project, source: Source) -> str:
    """How the values are read, as far as settings decide it."""
    settings = project.settings
    parts = (
        settings.default_country,
        source.encoding or settings.encoding,
        settings.missing_values,
    )
    return repr((*parts, settings.reads_fictional))


def _judge(engine: Engine, project: Project, source: Source, uploads: Relation, day: date) -> str:
    """Give each row of a list its user, or the rule that it breaks; hash of what decided that."""
    if source.phone_numbers:
        read_numbers(engine)
        owners = bind_owners(engine, project, uploads, ROWS, day)
        key, unknown, user = "number", "no_user", "o.user_id"
        joined = f"left join {owners} as o using (number)"
    else:
        owners, joined = uploads, ""
        key, unknown, user = "value", "unknown_user", "value"
    engine.run(
        f"""
        create or replace temp table {OUTCOMES} as
        with known as ({_known(uploads)}), good as (
            select *, row_number() over (partition by {key} order by line, value) as nth
            from {ROWS} where rule is null
        ), met as (
            select line, value, nth, {user} as user_id from good {joined}
        ), judged as (
            select line, value, user_id, case
                when nth > 1 then 'duplicate'
                when user_id is null or user_id not in (select user_id from known) then '{unknown}'
            end as rule from met
        )
        select line, value, user_id, coalesce(rule, case when row_number() over (
                partition by user_id, rule order by line, value) > 1 then 'same_user' end) as rule
        from judged
        union all select line, value, null, rule from {ROWS} where rule is not null
        """
    )
    return owners.fingerprint


def _known(uploads: Relation) -> str:
    """Users who are known on the date."""
    return (
        f"select user_id from {FEATURES} union select user_id from {uploads} "
        "where user_id is not null"
    )


def _judge_given(engine: Engine, given: Relation, uploads: Relation) -> None:
    """Give each user of a table or an algorithm the rule that it breaks, if it is not known."""
    engine.run(
        f"""
        create or replace temp table {OUTCOMES} as
        with known as ({_known(uploads)})
        select cast(null as bigint) as line, user_id as value, user_id,
            case when user_id not in (select user_id from known) then 'unknown_user' end as rule
        from {given}
        """
    )


def _checked(
    engine: Engine, project: Project, named: Named, day: date, members: Relation
) -> GroupCheck:
    """The check of the judged rows.

    Raises:
        GroupFailedError: it failed.
    """
    source = named.segment.source
    assert source is not None
    rows, people = engine.rows(
        f"select count(*), count(*) filter (where rule is null) from {OUTCOMES}"
    )[0]
    reasons = dict(
        engine.rows(
            f"select rule, count(*) from {OUTCOMES} where rule is not null "
            "group by rule order by count(*) desc, rule"
        )
    )
    if rows != people + sum(reasons.values()):
        raise RuntimeError(f"segment {named.name}: rows of its source were lost or made up")
    reached = bind_addresses(engine, project, members, day)
    numbers = engine.value(f"select count(*) from {reached} where phone is not null")
    check = replace(
        begin(named, day),
        state="passed",
        rows=rows,
        members=people,
        with_number=numbers,
        reasons=reasons,
        errors=_errors(engine, project, source) if source.is_list else (),
    )
    problem = _problem(project, source, check)
    if problem:
        failed = replace(check, state="failed", problem=problem)
        raise GroupFailedError(
            f"{named.origin}: source.{source.kind}: the check failed: {problem}; "
            f"`usergrowth segment errors {named.name}` lists the rows",
            failed,
        )
    return check


def _problem(project: Project, source: Source, check: GroupCheck) -> str:
    """Why the check fails, in a sentence; empty where it passes."""
    limit, where = source.max_error_share, "max_error_share"
    if limit is None:
        limit, where = project.settings.max_reject_share, "the setting max_reject_share"
    wrong = {rule: n for rule, n in check.reasons.items() if rule not in LEFT_OUT}
    bad = sum(wrong.values())
    if source.is_list and bad > limit * check.rows:
        rule = max(wrong, key=lambda one: wrong[one])
        first = next((one.line for one in check.errors if one.rule == rule), None)
        said = f" ({RULES[rule]})" if rule in RULES else ""
        return (
            f"{bad:,} of {check.rows:,} rows are wrong, more than the {limit:.2%} that {where} "
            f"allows; most often {rule}{said}, {wrong[rule]:,} times"
            + (f", first on line {first:,}" if first is not None else "")
        )
    if not check.members:
        return f"none of its {check.rows:,} rows is a person who is known" + (
            f" ({check.left_out})" if check.reasons else ""
        )
    return ""


def _errors(engine: Engine, project: Project, source: Source) -> tuple[RowError, ...]:
    """The first rows that break a rule, values masked; nothing of a person who was forgotten."""
    listed = ", ".join(f"'{rule}'" for rule in COUNTED_ONLY)
    rows = engine.rows(
        f"select line, value, rule from {OUTCOMES} where rule is not null "
        f"and rule not in ({listed}) order by line, value limit {KEPT_ERRORS}"
    )
    gone = _forgotten(project, [value for _, value, _ in rows if value])
    column = source.column or ("number" if source.phone_numbers else "user_id")
    return tuple(
        RowError(
            line,
            column,
            rule,
            "" if not value or value in gone else mask_value(value, number=source.phone_numbers),
        )
        for line, value, rule in rows
    )


def _forgotten(project: Project, values: list[str]) -> set[str]:
    """Those of a few values that are a number or the id of a person who was forgotten."""
    table = schema.suppression.c
    with project.store.read() as connection:
        rows = connection.execute(
            select(table.user_hash, table.phone_hash).where(table.reason == FORGOTTEN)
        ).all()
    hashes = {one for row in rows for one in row if one}
    if not hashes:
        return set()
    vault = open_vault(project.settings.home, project.settings.default_country)
    return {
        value
        for value in values
        if vault.user_digest(value) in hashes or not hashes.isdisjoint(vault.every_digest([value]))
    }
