"""People of a table by a filter, and people of an algorithm by their scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import identifier
from usergrowth_dagster.segments.compile import AIPL, FEATURES, RFM, SCORES, TAGS
from usergrowth_dagster.segments.definition import Named
from usergrowth_dagster.segments.groups.source import Source
from usergrowth_dagster.segments.inputs import bind_scores, bind_table
from usergrowth_dagster.segments.select import AS_OF, SelectShell, bind_selected
from usergrowth_dagster.sources.expressions import Expressions
from usergrowth_dagster.sql_shell.statements import SqlError
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.relation import Relation, bind_query

_OF_THE_DATE = (FEATURES, "user_item_features", TAGS, RFM, AIPL)
"""Tables that are built for each date: an older date would pass for this one unseen."""


@dataclass(frozen=True)
class Given:
    """What a table or an algorithm gave: see :class:`~.people.GroupPeople`.

    ``people`` has ``user_id``, each once; whether they are known is not looked at.
    """

    people: Relation
    fingerprint: str
    versions: Mapping[str, int]
    notes: tuple[str, ...]


def bind_table_people(engine: Engine, project: Project, named: Named, day: date) -> Given:
    """The people of a table's rows that pass a filter.

    The rows are read as the SELECT of a segment reads them: as of the date, without phone numbers,
    in an engine of their own that may open the table's files alone.

    Raises:
        UserError: the table or the filter is none that a segment may use; names file and key.
    """
    sql, note = table_sql(project, named, day)
    selected = bind_selected(
        engine, project, named, day, sql=sql, at="source.table", giver="the table"
    )
    return Given(selected.people, selected.fingerprint, selected.versions, (note, *selected.notes))


def table_sql(project: Project, named: Named, day: date) -> tuple[str, str]:
    """The SELECT of a table source, and a sentence on the days that it reads.

    Raises:
        UserError: as :func:`bind_table_people`.
    """
    source, at = named.segment.source, f"{named.origin}: source"
    assert source is not None and source.table is not None
    shell = SelectShell(project, day)
    names = shell.catalog.names
    if source.table not in names:
        raise UserError(
            f"{at}.table: there is no table {source.table!r} that a segment may read; there are "
            f"{', '.join(names) or 'none'}",
            code="segment.invalid",
        )
    try:
        columns = {column.name: column.kind for column in shell.describe(source.table)}
    except SqlError as error:
        raise UserError(f"{at}.table: {error}", code="segment.invalid") from None
    if "user_id" not in columns:
        raise UserError(
            f"{at}.table: {source.table} has no column user_id, so its rows are no people",
            code="segment.invalid",
        )
    first, last = _days(shell, named, source, day)
    conditions = [f"ds between date '{first}' and date '{last}'"]
    if source.filter is not None:
        with open_engine(project.settings) as engine:
            rules = Expressions(engine, columns, relation=source.table, code="segment.invalid")
            written = rules.sql(source.filter, f"{at}.filter")
            if rules.kind(written) != "BOOLEAN":
                raise UserError(
                    f"{at}.filter: must be true or false for a row; it is {rules.kind(written)}",
                    code="segment.invalid",
                )
        conditions.append(f"coalesce(({written}), false)")
    sql = f"select user_id from {identifier(source.table)} where {' and '.join(conditions)}"
    span = str(first) if first == last else f"{first} to {last}"
    return sql, f"{source.table}: rows of {span}"


def _days(shell: SelectShell, named: Named, source: Source, day: date) -> tuple[date, date]:
    """First and last day whose rows are read."""
    assert source.table is not None
    last = day if source.table in AS_OF else day - timedelta(days=1)
    if source.within_days is not None:
        return last - timedelta(days=source.within_days - 1), last
    days = [size.day for size in shell.catalog.table(source.table).sizes]
    newest = max(days, default=None)
    if newest is None or (source.table in _OF_THE_DATE and newest < day):
        raise UserError(
            f"{named.origin}: source.table: {source.table} has nothing for {last}; build the date "
            f"first with `usergrowth run --date {day}`",
            code="segment.not_ready",
        )
    return newest, newest


def bind_algorithm(engine: Engine, project: Project, named: Named, day: date) -> Given:
    """The people with the highest scores of a question.

    Where scores are equal, the smaller user id comes first.

    Raises:
        UserError: there are no such scores; names file and key.
    """
    source = named.segment.source
    assert source is not None and source.algorithm is not None
    scores = bind_table(engine, project, named, SCORES, day, source.max_age_days)
    place = f"{named.origin}: source.algorithm"
    bind_scores(engine, place, source.algorithm, source.max_age_days, day, "group_scores")
    chosen = (
        f"order by score desc, user_id limit {source.top}"
        if source.top is not None
        else f"where score >= {source.above!r}::double"
    )
    given = bind_query(engine, "given", f"select user_id from group_scores {chosen}", keep=True)
    people, on = engine.rows("select count(*), max(ds) from group_scores")[0]
    note = f"{source.algorithm}: {people:,} people have scores of {on}"
    return Given(given, scores.fingerprint, {SCORES: scores.version}, (note,))
