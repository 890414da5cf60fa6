"""Identity as people look at it: types, persons, links that join nobody, and who became whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from usergrowth_dagster.addresses.shown import hide_numbers, mask
from usergrowth_dagster.data.contracts import CONTRACTS, IDENTITY
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.identity.definition import FILE_NAME, USER, read_identity
from usergrowth_dagster.identity.links import LINKS, RAW, Keys, bind_links
from usergrowth_dagster.identity.rows import left_out, types_present
from usergrowth_dagster.identity.run import (
    Identified,
    identify,
    land_identity,
    land_sources,
    landed_files,
    newest_day,
)
from usergrowth_dagster.identity.suggest import bind_suggestions
from usergrowth_dagster.identity.tables import (
    CONFLICT_COLUMNS,
    CONFLICTS,
    HISTORY,
    HISTORY_COLUMNS,
    ONE_ID,
    ONE_ID_COLUMNS,
    REASONS,
)
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal, literals
from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.relation import Relation, bind_days
from usergrowth_dagster.warehouse.relation import bind_files as bind_table

MOST_SHOWN = 200
"""Ids of a person that are shown at most."""


@dataclass(frozen=True)
class TypeLook:
    """A type of ids, and what has landed of it.

    Attributes:
        name: of the type.
        priority: links of a smaller number are made first; None: the home has no such type.
        rule: what else holds for it, in words.
        rows: landed rows.
        ids: different values.
    """

    name: str
    priority: int | None
    rule: str
    rows: int
    ids: int


@dataclass(frozen=True)
class IdentityLook:
    """The types of a home, and what its landed rows would be; nothing was written.

    ``origin`` is identity.yml, or the words that there is none; ``left_out`` has landed rows that
    cannot link, by reason: hubs and clashes are known only after a run.
    """

    origin: str
    execution_date: date
    types: tuple[TypeLook, ...]
    rows: int
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class IdentityRan:
    """What landed now, and what was made of all links."""

    rows_landed: int
    rows_quarantined: int
    notices: tuple[str, ...]
    made: Identified


@dataclass(frozen=True)
class ShownId:
    """An id of a person; the value is masked unless it is a user id."""

    user: str
    id_type: str
    value: str
    source: str
    rows: int
    first_day: date
    last_day: date


@dataclass(frozen=True)
class ShownConflict:
    """A link that joins nobody; ``id`` is the beginning of the id's keyed hash, or a user id."""

    reason: str
    id_type: str
    id: str
    user: str
    because: str
    one_id: str
    other_one_id: str
    source: str
    first_seen: date
    rows: int


@dataclass(frozen=True)
class ShownPerson:
    """A person as of an execution date: users, ids, and links of theirs that join nobody."""

    user: str
    execution_date: date
    one_id: str | None
    since: date | None
    users: tuple[str, ...]
    users_in_all: int
    ids: tuple[ShownId, ...]
    ids_in_all: int
    conflicts: tuple[ShownConflict, ...]


@dataclass(frozen=True)
class ConflictCount:
    """Links and landed rows of a type that join nobody, by reason."""

    reason: str
    id_type: str
    links: int
    rows: int
    meaning: str


@dataclass(frozen=True)
class Conflicts:
    """The links of a date that join nobody: counts of all, and the first of them."""

    execution_date: date
    counts: tuple[ConflictCount, ...]
    links: tuple[ShownConflict, ...]


@dataclass(frozen=True)
class Change:
    """Who became whom: an old one_id, the new one, why, and the link that joined them."""

    execution_date: date
    why: str
    old: str
    new: str
    id_type: str
    source: str
    ids: int


@dataclass(frozen=True)
class ChangeCount:
    """Changes of one kind on a date."""

    execution_date: date
    why: str
    changes: int


@dataclass(frozen=True)
class History:
    """Changes by date and kind, and the newest of those that were asked for."""

    counts: tuple[ChangeCount, ...]
    changes: tuple[Change, ...]


def check_identity(project: Project, day: date | None = None) -> IdentityLook:
    """Read the types and the rows that have landed before a date; nothing is written.

    Raises:
        UserError: identity.yml breaks its format.
    """
    identity = read_identity(project.settings.home)
    day = day or project.settings.current_date()
    path = project.settings.home / FILE_NAME
    with open_engine(project.settings) as engine:
        vault = open_vault(project.settings.home, project.settings.default_country)
        bind_links(engine, identity, Keys.of(vault), landed_files(project, day), day)
        present = types_present(engine, identity)
        looks = [
            TypeLook(one.name, one.priority, one.rule, *present.pop(one.name, (0, 0)))
            for one in identity.all_types
        ]
        looks += [
            TypeLook(name, None, "not known: links nobody", *counts)
            for name, counts in present.items()
        ]
        return IdentityLook(
            origin=str(path) if path.exists() else f"no {FILE_NAME}: the default types",
            execution_date=day,
            types=tuple(looks),
            rows=int(engine.value(f"select coalesce(sum(rows), 0) from {LINKS}")),
            left_out=left_out(engine, [LINKS]),
        )


def run_identity(project: Project, day: date | None = None) -> IdentityRan:
    """Land what lies in identity/ before a date, and make its persons.

    Sources that fill identity/ are asked first.

    Raises:
        UserError: identity.yml or sources.yml breaks its format, a source or days cannot be landed,
            or a later date is made.
    """
    read_identity(project.settings.home)  # before anything is written
    day = day or project.settings.current_date()
    from_sources = land_sources(project)
    landed = [one for one in land_identity(project, day) if one.status == "landed"]
    return IdentityRan(
        rows_landed=sum(one.accepted for one in landed),
        rows_quarantined=sum(one.quarantined - one.forgotten for one in landed),
        notices=(*from_sources, *(notice for one in landed for notice in one.notices)),
        made=identify(project, day),
    )


@dataclass(frozen=True)
class ShownSuggestion:
    """A pair of users who may be one person; no value of a field is shown."""

    user: str
    other: str
    chance: float
    agree: str
    differ: str
    answer: str | None


@dataclass(frozen=True)
class Suggestions:
    """Suggested pairs of the newest date.

    Attributes:
        pairs: the likeliest ones first, as many as are listed.
        waiting: pairs without an answer, in all.
        answered: pairs with one, in all.
    """

    pairs: tuple[ShownSuggestion, ...]
    waiting: int
    answered: int


def list_suggestions(project: Project, limit: int, *, answered: bool = False) -> Suggestions:
    """The suggested pairs of the newest date.

    Args:
        project: the home.
        limit: pairs that are listed at most.
        answered: whether pairs with an answer are listed too.
    """
    with open_engine(project.settings) as engine:
        rows = bind_suggestions(engine, project)
        waiting, done = engine.rows(f"select count(*) - count(answer), count(answer) from {rows}")[
            0
        ]
        where = "true" if answered else "answer is null"
        listed = engine.rows(
            f"select user_id, other_user_id, chance, agree, differ, answer from {rows} "
            f"where {where} order by chance desc, user_id, other_user_id limit {int(limit)}"
        )
    return Suggestions(tuple(ShownSuggestion(*row) for row in listed), int(waiting), int(done))


def show_person(project: Project, user_id: str, day: date | None = None) -> ShownPerson:
    """The person of a user, as of the newest date made, or of a date.

    Raises:
        UserError: no date is made, or no row of identity/ mentions the user.
    """
    day = newest_day(project, day)
    with open_engine(project.settings) as engine:
        people = bind_days(engine, project.warehouse, ONE_ID, [day], types_of(ONE_ID_COLUMNS))
        mine = f"id_type = '{USER}' and id_value = {literal(user_id)}"
        known = engine.rows(f"select one_id, since from {people} where {mine}")
        one_id, since = known[0] if known else (None, None)
        users = _users_of(engine, people, one_id) if known else [user_id]
        landed = bind_table(
            engine, RAW, landed_files(project, day), CONTRACTS[IDENTITY].raw_types()
        )
        ids = _ids_of(engine, landed, users)
        links = _bind_conflicts(engine, project, day)
        theirs = f"user_id in ({literals(users)}) order by reason, id_type, user_id, id_value"
        conflicts = _conflict_rows(engine, f"{links} where {theirs} limit {MOST_SHOWN}")
    if not known and not ids:
        raise UserError(
            f"no row of {IDENTITY}/ before {day} mentions the user {user_id}", code="person.unknown"
        )
    return ShownPerson(
        user=user_id,
        execution_date=day,
        one_id=one_id,
        since=since,
        users=tuple(users[:MOST_SHOWN]),
        users_in_all=len(users),
        ids=tuple(ids[:MOST_SHOWN]),
        ids_in_all=len(ids),
        conflicts=conflicts,
    )


def _users_of(engine: Engine, people: Relation, one_id: str) -> list[str]:
    sql = f"select id_value from {people} where id_type = '{USER}' and one_id = {literal(one_id)}"
    return [user for (user,) in engine.rows(f"{sql} order by id_value")]


def _ids_of(engine: Engine, landed: Relation, users: Sequence[str]) -> list[ShownId]:
    rows = engine.rows(
        "select user_id, id_type, id_value, coalesce(min(source), ''), count(*), min(ds), max(ds) "
        f"from {landed} where user_id in ({literals(users)}) group by all order by all"
    )
    return [
        ShownId(
            user,
            hide_numbers(id_type),
            value if id_type == USER else mask(value),
            hide_numbers(source),
            *counts,
        )
        for user, id_type, value, source, *counts in rows
    ]


def _bind_conflicts(engine: Engine, project: Project, day: date) -> Relation:
    columns = types_of(CONFLICT_COLUMNS)
    return bind_days(engine, project.warehouse, CONFLICTS, [day], columns)


def _conflict_rows(engine: Engine, source: str) -> tuple[ShownConflict, ...]:
    rows = engine.rows(
        f"select reason, id_type, case when id_type = '{USER}' then id_value else "
        "left(id_value, 8) end, user_id, coalesce(because, ''), coalesce(one_id, ''), "
        f"coalesce(other_one_id, ''), source, first_seen, rows from {source}"
    )
    return tuple(ShownConflict(*row) for row in rows)


def read_conflicts(
    project: Project, day: date | None = None, reason: str | None = None, limit: int = 20
) -> Conflicts:
    """The links that join nobody, as of the newest date made, or of a date.

    Raises:
        UserError: no date is made, or there is no such reason.
    """
    if reason is not None and reason not in REASONS:
        raise UserError(
            f"--reason {reason!r}: choose from {', '.join(REASONS)}", code="command.invalid"
        )
    day = newest_day(project, day)
    where = "true" if reason is None else f"reason = {literal(reason)}"
    with open_engine(project.settings) as engine:
        links = _bind_conflicts(engine, project, day)
        counts = engine.rows(
            f"select reason, id_type, count(*), sum(rows) from {links} where {where} "
            "group by reason, id_type order by reason, id_type"
        )
        order = "reason, id_type, id_value, first_seen, user_id"
        shown = _conflict_rows(engine, f"{links} where {where} order by {order} limit {limit}")
    return Conflicts(
        day,
        tuple(ConflictCount(r, kind, n, int(rows), REASONS[r]) for r, kind, n, rows in counts),
        shown,
    )


def read_history(project: Project, one_id: str | None = None, limit: int = 20) -> History:
    """Who became whom, newest first; of one one_id alone if it is given.

    Raises:
        UserError: no date is made.
    """
    newest_day(project, None)
    days = project.warehouse.days(HISTORY)
    who = "true" if one_id is None else f"{literal(one_id)} in (old, new)"
    with open_engine(project.settings) as engine:
        changes = bind_days(engine, project.warehouse, HISTORY, days, types_of(HISTORY_COLUMNS))
        counts = engine.rows(
            f"select ds, why, count(*) from {changes} where {who} group by ds, why "
            "order by ds desc, why"
        )
        rows = engine.rows(
            "select ds, why, coalesce(old, ''), coalesce(new, ''), coalesce(id_type, ''), "
            f"coalesce(source, ''), ids from {changes} where {who} "
            f"order by ds desc, why = 'created', why, old, new limit {limit}"
        )
    return History(tuple(ChangeCount(*row) for row in counts), tuple(Change(*row) for row in rows))
