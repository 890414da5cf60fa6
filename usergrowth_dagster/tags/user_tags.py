"""The table ``user_tags``: a row for each user known on an execution date, a column for each tag.

Everything is as of the morning of the date: rules read ``user_features`` of the date, statistics
the days before it, scores those of the date or earlier. A tag that is not due has the values of an
earlier date.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.sources.expressions import Expressions
from usergrowth_dagster.tags.definition import DUCKDB_TYPES, FILE_NAME, Tag, TagType
from usergrowth_dagster.tags.freshness import (
    TABLE,
    Carried,
    Standing,
    definition_mark,
    newest_before,
    not_due,
    note_of,
)
from usergrowth_dagster.tags.inputs import (
    FACTS,
    FEATURES,
    Written,
    bind_facts,
    bind_features,
    write_rows,
)
from usergrowth_dagster.tags.item_words import check_words_stand
from usergrowth_dagster.tags.uploads import bind_upload
from usergrowth_dagster.tags.user_words import bind_user_words
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.relation import Relation, bind_days, bind_query

SCORES = "scores"
SCORE_DAYS = 90
"""Days after which a score is too old, unless the tag says otherwise."""
VERSION = "2"
"""Raised when the same definition and inputs would give other rows."""

_SCORE_TYPES = {
    "ds": "DATE",
    "task_id": "VARCHAR",
    "user_id": "VARCHAR",
    "score": "DOUBLE",
    "model_name": "VARCHAR",
}
_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER", "HUGEINT"}
_TYPES: Mapping[str, TagType] = {
    **dict.fromkeys(_INTEGERS, "int"),
    "FLOAT": "float",
    **{kind: name for name, kind in DUCKDB_TYPES.items()},
}
_BECOMES: Mapping[TagType, frozenset[TagType]] = {
    "bool": frozenset({"bool"}),
    "int": frozenset({"int"}),
    "float": frozenset({"float", "int"}),
    "text": frozenset({"text", "bool", "int", "float", "date"}),
    "multi": frozenset({"multi"}),
    "date": frozenset({"date"}),
}
"""By the type that a tag asks for, the types that a value may have."""


@dataclass(frozen=True)
class TagColumn:
    """How the column of a tag is worked out.

    Attributes:
        tag: which.
        type: of its values.
        sql: expression over the joined relations.
        join: the relation that it needs beside the features; None: the features alone.
        notice: what was left out of an upload, or that the tag is not due; "" for nothing.
        standing: what is noted of the tag where that is known beforehand.
    """

    tag: Tag
    type: TagType
    sql: str
    join: Relation | None = None
    notice: str = ""
    standing: Standing | None = None


@dataclass(frozen=True)
class TagsWritten:
    """The table of a date, and what people should know about it."""

    written: Written
    notices: tuple[str, ...]


def write_user_tags(
    project: Project, tags: Sequence[Tag], day: date, *, again: bool = False
) -> TagsWritten:
    """Work out the table ``user_tags`` of an execution date.

    Args:
        project: the home.
        tags: the tags.
        day: the execution date.
        again: also work out tags that are not due.

    Raises:
        UserError: features of the date are not there; an expression is wrong; or a tag has values
            of another type than it had before.
    """
    with open_engine(project.settings) as engine:
        features = bind_features(engine, project, day)
        carried = {} if again else not_due(project, tags, day)
        due = [tag for tag in tags if tag.key not in carried]
        if any(tag.words is not None for tag in due):
            check_words_stand(project, day)
        columns = tag_columns(engine, project, due, day, features)
        columns += _carried_columns(engine, project, tags, carried)
        place = {tag.key: number for number, tag in enumerate(tags)}
        columns.sort(key=lambda column: place[column.tag.key])
        _check_types(project, columns)
        joins = {str(c.join): c.join for c in columns if c.join is not None}
        made_from = json.dumps(
            [
                VERSION,
                [
                    (definition_mark(c.tag), c.tag.key, c.type, c.sql, str(c.standing))
                    for c in columns
                ],
                features.fingerprint,
                [relation.fingerprint for relation in joins.values()],
            ]
        )
        sql = _sql(columns, day, features, list(joins.values()))

        def note() -> Mapping[str, Any]:
            return note_of({c.tag.key: _standing(engine, c, day) for c in columns})

        written = write_rows(engine, project, TABLE, day, sql, made_from, note)
    notices = tuple(f"tag {c.tag.key}: {c.notice}" for c in columns if c.notice)
    return TagsWritten(written, notices)


def _carried_columns(
    engine: Engine, project: Project, tags: Sequence[Tag], carried: Mapping[str, Carried]
) -> list[TagColumn]:
    """The columns of tags that are not due, from the rows of earlier dates."""
    types = tag_types(project) if carried else {}
    columns = []
    for day in sorted({one.day for one in carried.values()}):
        mine = [tag for tag in tags if tag.key in carried and carried[tag.key].day == day]
        kinds = {"user_id": "VARCHAR"} | {tag.key: DUCKDB_TYPES[types[tag.key]] for tag in mine}
        earlier = bind_days(engine, project.warehouse, TABLE, [day], kinds)
        for tag in mine:
            standing = carried[tag.key].standing
            notice = (
                f"not worked out, since it is refreshed {tag.refresh}; its values are of "
                f"{standing.as_of}"
            )
            sql = f"{earlier}.{identifier(tag.key)}"
            columns.append(TagColumn(tag, types[tag.key], sql, earlier, notice, standing))
    return columns


def _standing(engine: Engine, column: TagColumn, day: date) -> Standing:
    """What is noted of a tag of the date."""
    if column.standing is not None:
        return column.standing
    mark = definition_mark(column.tag)
    if column.tag.score is None or column.join is None:
        return Standing(day, mark)
    return Standing(engine.value(f"select max(ds) from {column.join}"), mark)


def tag_columns(
    engine: Engine, project: Project, tags: Sequence[Tag], day: date, features: Relation
) -> list[TagColumn]:
    """The columns of the tags, checked.

    Args:
        engine: holds the features.
        project: the home.
        tags: the tags.
        day: the execution date.
        features: ``user_features`` of the date; only its columns are asked for.

    Raises:
        UserError: an expression is wrong or has no type that a tag can have, or an upload cannot
            be read.
    """
    rules = Expressions(engine, features.columns, relation=FEATURES, code="tag.invalid")
    statistics = _Statistics(engine, project, [t for t in tags if t.statistic], day)
    uploads = [tag.key for tag in tags if tag.upload]
    before = newest_before(project, uploads, day)
    columns = []
    for tag in tags:
        place = f"{FILE_NAME}: tag {tag.key}: {tag.source}"
        if tag.rule is not None:
            sql = rules.sql(tag.rule, place)
            columns.append(_typed(tag, rules.kind(sql), sql, place))
        elif tag.statistic is not None:
            column = f"{statistics.relation}.{identifier(tag.key)}"
            kind = statistics.relation.columns[tag.key]
            columns.append(_typed(tag, kind, column, place, statistics.relation))
        elif tag.score is not None:
            columns.append(_score_column(engine, project, tag, day))
        elif tag.words is not None:
            words = bind_user_words(engine, project, tag.words, day)
            columns.append(TagColumn(tag, "multi", f"{words}.value", words))
        else:
            upload = bind_upload(engine, project, tag)
            assert tag.type is not None
            sql = f"{upload.values}.value"
            standing = _upload_standing(tag, before.get(tag.key), upload.values.fingerprint, day)
            columns.append(TagColumn(tag, tag.type, sql, upload.values, upload.sentence, standing))
    return columns


def _upload_standing(tag: Tag, before: Carried | None, content: str, day: date) -> Standing:
    """A file that an earlier date has read already is as old as that date says."""
    as_of = day
    if before is not None and before.standing.content == content and before.standing.as_of:
        as_of = before.standing.as_of
    return Standing(as_of, definition_mark(tag), content)


def _typed(tag: Tag, kind: str, sql: str, place: str, join: Relation | None = None) -> TagColumn:
    given = _TYPES.get("DOUBLE" if kind.startswith("DECIMAL") else kind)
    if given is None:
        raise UserError(
            f"{place}: its values are {kind}; a tag has {', '.join(DUCKDB_TYPES)}",
            code="tag.invalid",
        )
    wanted = tag.type or given
    if given not in _BECOMES[wanted]:
        raise UserError(
            f"{place}: its values are {given}, and the tag's type is {wanted}", code="tag.invalid"
        )
    if DUCKDB_TYPES[wanted] != kind:
        sql = f"cast({sql} as {DUCKDB_TYPES[wanted]})"
    return TagColumn(tag, wanted, sql, join)


class _Statistics:
    """The statistics of all tags in one pass over the days: a row a user, a column a tag."""

    def __init__(self, engine: Engine, project: Project, tags: Sequence[Tag], day: date) -> None:
        longest = max((tag.statistic.days for tag in tags if tag.statistic), default=1)
        facts = bind_facts(engine, project, day, longest if tags else 0)
        checked = Expressions(engine, facts.columns, relation=FACTS, code="tag.invalid")
        columns = ["user_id"]
        for tag in tags:
            columns.append(f"{_statistic_sql(checked, tag, day)} as {identifier(tag.key)}")
        sql = f"select {', '.join(columns)} from {facts} group by user_id"
        self.relation = bind_query(engine, "tag_statistics", sql, of=[facts])


def _statistic_sql(checked: Expressions, tag: Tag, day: date) -> str:
    assert tag.statistic is not None
    operation, text = tag.statistic.operation
    place = f"{FILE_NAME}: tag {tag.key}: statistic.{operation}"
    value = checked.sql(text, place, number=operation in ("sum", "mean"))
    within = f"ds >= date {literal(day.isoformat())} - {tag.statistic.days}"
    kind = checked.kind(value)
    if operation == "days_with":
        if kind != "BOOLEAN":
            raise UserError(f"{place}: is a condition, such as events > 3", code="tag.invalid")
        return f"count(*) filter (where {within} and {value})"
    if operation in ("sum", "mean") and not _is_number(kind):
        raise UserError(f"{place}: its values are {kind}, and no numbers", code="tag.invalid")
    if operation == "sum":  # to nine decimals, since the order of rows changes the last ones
        return f"round(sum(cast({value} as double)) filter (where {within}), 9)"
    function = {"mean": "avg", "max": "max", "min": "min"}[operation]
    return f"{function}({value}) filter (where {within})"


def _is_number(kind: str) -> bool:
    return kind in _INTEGERS | {"BIGINT", "UBIGINT", "FLOAT", "DOUBLE"} or "DECIMAL" in kind


def _score_column(engine: Engine, project: Project, tag: Tag, day: date) -> TagColumn:
    """The newest score of a question for each user, of the date or an earlier one."""
    assert tag.score is not None
    age = tag.max_age_days or SCORE_DAYS
    days = {day - timedelta(days=back) for back in range(age + 1)}
    scores = bind_days(engine, project.warehouse, SCORES, days, _SCORE_TYPES)
    newest = bind_query(
        engine,
        "tag_scores",
        "select user_id, arg_max(score, (ds, task_id)) as score, max(ds) as ds "
        f"from {scores} where model_name = {literal(tag.score.question)} and score is not null "
        "group by user_id",
        of=[scores],
    )
    value = f"{newest}.score"
    if tag.score.bands is None:
        return TagColumn(tag, "float", value, newest)
    whens = " ".join(
        f"when {value} <= {limit!r} then {literal(name)}" for name, limit in tag.score.bands.items()
    )
    return TagColumn(tag, "text", f"case {whens} end", newest)


def _sql(
    columns: Sequence[TagColumn], day: date, features: Relation, joins: Sequence[Relation]
) -> str:
    # Rules name columns of the features without a qualifier, so nothing else may have such names.
    rules = [c for c in columns if c.join is None]
    of_features = ", ".join(["user_id", *(f"{c.sql} as {identifier(c.tag.key)}" for c in rules)])
    selected = ", ".join(
        f"f.{identifier(c.tag.key)}" if c.join is None else f"{c.sql} as {identifier(c.tag.key)}"
        for c in columns
    )
    joined = " ".join(f"left join {one} on f.user_id = {one}.user_id" for one in joins)
    return (
        f"select date {literal(day.isoformat())} as ds, f.user_id, {selected} "
        f"from (select {of_features} from {features}) as f {joined}"
    )


def _check_types(project: Project, columns: Sequence[TagColumn]) -> None:
    """Refuse a tag whose values have another type than its column has."""
    if not project.warehouse.exists(TABLE):
        return
    known = tag_types(project)
    for column in columns:
        before = known.get(column.tag.key)
        if before is not None and before != column.type:
            raise UserError(
                f"{FILE_NAME}: tag {column.tag.key}: its values are {column.type} now and were "
                f"{before} before; give the tag another key",
                code="tag.invalid",
            )


def tag_types(project: Project) -> dict[str, TagType]:
    """Type of each tag that has ever been worked out, by its key.

    Raises:
        UserError: no tags have been worked out.
    """
    import pyarrow as pa

    if not project.warehouse.exists(TABLE):
        raise UserError(
            "no tags have been worked out; `usergrowth tags run --date DATE` does it",
            code="tag.not_ready",
        )
    names = {"bool": "bool", "int64": "int", "double": "float", "date32[day]": "date"}
    schema = pa.schema(project.warehouse.open(TABLE).schema().to_arrow())
    types: dict[str, TagType] = {}
    for field in schema:
        if field.name not in ("ds", "user_id"):
            multi = pa.types.is_list(field.type) or pa.types.is_large_list(field.type)
            named = names.get(str(field.type), "multi" if multi else "text")
            types[field.name] = named  # type: ignore[assignment]
    return types


def bind_user_tags(engine: Engine, project: Project, day: date) -> Relation:
    """The tags of a date.

    Raises:
        UserError: they have not been worked out.
    """
    columns = {"ds": "DATE", "user_id": "VARCHAR"}
    columns |= {key: DUCKDB_TYPES[kind] for key, kind in tag_types(project).items()}
    relation = bind_days(engine, project.warehouse, TABLE, [day], columns)
    if not relation.files:
        raise UserError(
            f"the tags of {day} have not been worked out; `usergrowth tags run --date {day}` does "
            "it",
            code="tag.not_ready",
        )
    return relation


def check_tags(project: Project, tags: Sequence[Tag]) -> dict[str, TagType]:
    """Types of the tags, by key, without working anything out.

    Raises:
        UserError: as :func:`tag_columns`.
    """
    with open_engine(project.settings) as engine:
        columns = load_graph().types(FEATURES)
        body = ", ".join(f"cast(null as {kind}) as {identifier(c)}" for c, kind in columns.items())
        none = bind_query(engine, "no_features", f"select {body} where false")
        day = project.settings.current_date()
        made = tag_columns(engine, project, tags, day, none)
        _check_types(project, made)
        return {column.tag.key: column.type for column in made}
