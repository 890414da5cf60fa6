"""Pairs of users who may be one person although no id links them: for somebody to approve.

Splink learns from the home's own users how much it says when a field is equal, alike or different
(Fellegi and Sunter, "A Theory for Record Linkage", Journal of the American Statistical Association
64, 1969, p. 1183): by expectation maximization over the pairs that agree on something, and from
random pairs. Nothing here joins users. A pair that is approved lands as a link of both users,
like any other link; a pair that is rejected is not suggested again.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.identity.definition import FILE_NAME, USER, Suggest, read_identity
from usergrowth_dagster.identity.persons import bind_persons
from usergrowth_dagster.identity.tables import SUGGESTION_COLUMNS, SUGGESTIONS
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.sources.expressions import Expressions
from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.relation import Relation, bind_days, bind_query

if TYPE_CHECKING:
    import splink

MOST_PAIRS = 20_000_000
"""Pairs of users that are compared at most; more would take hours."""

_RANDOM_PAIRS = 1_000_000
_SEED = 1
_USERS = "stg_user"


@dataclass(frozen=True)
class Suggested:
    """What came of comparing the users of a home.

    Attributes:
        execution_date: the date.
        users: users that were compared.
        pairs: pairs that agree on one of the lists of ``agree_on``.
        suggested: pairs from ``least`` on that nobody has answered.
        one_person: pairs from ``least`` on who are one person already.
        answered: pairs that were approved or rejected before, and are kept as that.
    """

    execution_date: date
    users: int
    pairs: int
    suggested: int
    one_person: int
    answered: int

    @property
    def sentence(self) -> str:
        """All of that in one sentence."""
        return (
            f"{self.suggested:,} pairs suggested of {self.pairs:,} compared among {self.users:,} "
            f"users; {self.one_person:,} are one person already, {self.answered:,} were answered "
            "before"
        )


def suggest(project: Project, day: date) -> Suggested:
    """Compare the users as of an execution date, and write the pairs that may be one person.

    Args:
        project: the home.
        day: the execution date; the newest users that landed before it are compared.

    Raises:
        UserError: identity.yml asks for no suggestions or breaks its format, no user has landed,
            too many pairs agree, or the package for it is not installed.
    """
    keys = read_identity(project.settings.home).suggest
    if keys is None:
        raise UserError(
            f"{project.settings.home / FILE_NAME}: suggest: it is not there; name the fields that "
            "are compared",
            code="identity.invalid",
        )
    _require_splink()
    with project.alone("identity"), open_engine(project.settings) as engine:
        people = _bind_people(engine, project, keys, day)
        users = int(engine.value(f"select count(*) from {people}"))
        pairs = [_pairs(engine, people, names) for names in keys.agree_on]
        _require_few(keys, pairs)
        usable = [names for names, count in zip(keys.agree_on, pairs, strict=True) if count]
        alike = _compare(engine, people, keys, usable, users)
        rows = _with_answers(engine, project, alike, day)
        one_person = int(engine.value(f"select count(*) from {rows} where one_person"))
        answered = int(engine.value(f"select count(*) from {rows} where answer is not null"))
        kept = f"from {rows} where answer is not null or not one_person"
        written = int(engine.value(f"select count(*) {kept}"))
        columns = ", ".join(name for name in SUGGESTION_COLUMNS if name != "ds")
        sql = f"select date '{day}' as ds, {columns} {kept} order by chance desc, user_id"
        project.warehouse.replace(SUGGESTIONS, engine.arrow(sql), days=[day])
    return Suggested(day, users, sum(pairs), written - answered, one_person, answered)


def _require_splink() -> None:
    try:
        import splink  # noqa: F401
    except ImportError:
        raise UserError(
            f"{FILE_NAME}: suggest needs the package splink: "
            "pip install 'usergrowth-dagster[fuzzy]'",
            code="identity.invalid",
        ) from None


def _bind_people(engine: Engine, project: Project, keys: Suggest, day: date) -> Relation:
    """``user_id`` and, by name, each field as a text; blank ones are NULL."""
    landed = [one for one in project.warehouse.days(_USERS) if one < day]
    if not landed:
        raise UserError(
            f"no user has landed before {day}, so there is nobody to compare",
            code="identity.not_made",
        )
    users = bind_days(engine, project.warehouse, _USERS, [max(landed)], load_graph().types(_USERS))
    checked = Expressions(engine, users.columns, relation=_USERS, code="identity.invalid")
    fields = ", ".join(
        "nullif(trim(lower(cast({} as varchar))), '') as {}".format(
            checked.sql(one.value, f"{FILE_NAME}: suggest.fields.{name}.value"), identifier(name)
        )
        for name, one in keys.fields.items()
    )
    sql = f"select user_id, {fields} from {users} where user_id is not null"
    return bind_query(engine, "people", sql, of=[users], keep=True)


def _pairs(engine: Engine, people: Relation, names: Sequence[str]) -> int:
    """How many pairs of users agree on all of some fields."""
    known = " and ".join(f"{identifier(name)} is not null" for name in names)
    listed = ", ".join(map(identifier, names))
    return int(
        engine.value(
            "select coalesce(sum(n * (n - 1) // 2), 0) from (select count(*) as n "
            f"from {people} where {known} group by {listed})"
        )
    )


def _require_few(keys: Suggest, pairs: Sequence[int]) -> None:
    if sum(pairs) <= MOST_PAIRS:
        return
    worst = max(range(len(pairs)), key=pairs.__getitem__)
    raise UserError(
        f"{FILE_NAME}: suggest.agree_on.{worst}: {pairs[worst]:,} pairs of users agree on "
        f"{', '.join(keys.agree_on[worst])}; {MOST_PAIRS:,} are compared at most, so name more "
        "fields in the list",
        code="identity.invalid",
    )


def _compare(
    engine: Engine, people: Relation, keys: Suggest, agree_on: Sequence[Sequence[str]], users: int
) -> Relation:
    """The pairs from ``least`` on: user_id, other_user_id, chance, agree and differ."""
    pairs = "alike_pairs"
    engine.run(
        f"create or replace temp table {pairs} (user_id varchar, other_user_id varchar, "
        "chance double)"
    )
    if agree_on:
        found = _predict(engine, people, keys, agree_on, users)
        engine.run(f"insert into {pairs} {found}")
    agree, differ = (
        "concat_ws(', ', {})".format(
            ", ".join(
                f"case when a.{identifier(name)} {sign} b.{identifier(name)} "
                f"then {literal(name)} end"
                for name in keys.compared
            )
        )
        for sign in ("=", "<>")
    )
    return bind_query(
        engine,
        "alike",
        f"select p.*, {agree} as agree, {differ} as differ from {pairs} as p "
        f"join {people} as a on a.user_id = p.user_id "
        f"join {people} as b on b.user_id = p.other_user_id",
        keep=True,
    )


def _predict(
    engine: Engine, people: Relation, keys: Suggest, agree_on: Sequence[Sequence[str]], users: int
) -> str:
    """Learn from the users, and the SELECT of the pairs from ``least`` on, the smaller id first."""
    from splink import DuckDBAPI, Linker, SettingsCreator, block_on

    blocks = [block_on(*names) for names in agree_on]
    settings = SettingsCreator(
        link_type="dedupe_only",
        unique_id_column_name="user_id",
        comparisons=[_comparison(name, keys.fields[name].compare) for name in keys.compared],
        blocking_rules_to_generate_predictions=list(blocks),
        # of all pairs, those that the expected second accounts make
        probability_two_random_records_match=2 * keys.expected_share / max(users - 1, 2),
        retain_matching_columns=False,
    )
    database = DuckDBAPI(connection=engine.connection)
    linker = Linker(database.register(people.name), settings, log_level=logging.ERROR)
    linker.training.estimate_u_using_random_sampling(max_pairs=_RANDOM_PAIRS, seed=_SEED)
    for block in blocks:
        linker.training.estimate_parameters_using_expectation_maximisation(block)
    alike = linker.inference.predict(threshold_match_probability=keys.least)
    return (
        "select least(user_id_l, user_id_r), greatest(user_id_l, user_id_r), match_probability "
        f"from {identifier(alike.physical_name)}"
    )


def _comparison(name: str, compare: str) -> "splink.ComparisonCreator":
    import splink.comparison_library as levels

    made: dict[str, Any] = {
        "exact": levels.ExactMatch,
        "name": levels.NameComparison,
        "text": levels.LevenshteinAtThresholds,
    }
    return made[compare](name)


def _with_answers(engine: Engine, project: Project, alike: Relation, day: date) -> Relation:
    """The pairs with what was answered before, earlier answers too, and whether they are one.

    Columns of ``identity_suggestions`` but ``ds``, and ``one_person``.
    """
    before = bind_answered(engine, project, day)
    persons = bind_persons(engine, project, day)
    one = "false"
    if persons is not None:
        users = f"from {persons.people} where id_type = '{USER}' and id_value ="
        one = (
            f"coalesce((select one_id {users} p.user_id limit 1) = "
            f"(select one_id {users} p.other_user_id limit 1), false)"
        )
    return bind_query(
        engine,
        "suggestions",
        f"""
        select p.user_id, p.other_user_id, p.chance, p.agree, p.differ, b.answer, b.answered_by,
            {one} as one_person
        from {alike} as p left join {before} as b using (user_id, other_user_id)
        union all
        select b.user_id, b.other_user_id, b.chance, b.agree, b.differ, b.answer, b.answered_by,
            false
        from {before} as b anti join {alike} as p using (user_id, other_user_id)
        """,
        keep=True,
    )


def bind_answered(engine: Engine, project: Project, day: date) -> Relation:
    """The answered pairs of the newest date up to a day."""
    rows = bind_suggestions(engine, project, day)
    return bind_query(engine, "answered", f"select * from {rows} where answer is not null")


def bind_suggestions(engine: Engine, project: Project, day: date | None = None) -> Relation:
    """The pairs of the newest date made, up to a day if one is given; none if none is made."""
    made = [one for one in project.warehouse.days(SUGGESTIONS) if day is None or one <= day]
    return bind_days(
        engine, project.warehouse, SUGGESTIONS, sorted(made)[-1:], types_of(SUGGESTION_COLUMNS)
    )


def pair_key(user: str, other: str) -> str:
    """The value of the link of an approved pair; it names neither user."""
    return hashlib.sha256("\n".join(sorted((user, other))).encode()).hexdigest()[:32]
