"""Tags as people look at them: the catalogue with coverage, RFM groups, AIPL stages, one person."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.tags import aipl, rfm
from usergrowth_dagster.tags.coverage import Coverage, coverage_of
from usergrowth_dagster.tags.definition import Tag, TagType
from usergrowth_dagster.tags.flows import (
    GROUPED,
    Flow,
    check_worked_out,
    flow_between,
    written_days,
)
from usergrowth_dagster.tags.freshness import TABLE, Standing, stale_sentence, standings_on
from usergrowth_dagster.tags.item_words import bind_item_words
from usergrowth_dagster.tags.run import catalogue_of
from usergrowth_dagster.tags.tokens import analyzer_of
from usergrowth_dagster.tags.user_tags import bind_user_tags, check_tags, tag_types
from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.relation import Relation, bind_days

HIDDEN = "hidden"
"""Shown instead of a value of a personal or sensitive tag."""


@dataclass(frozen=True)
class TagLine:
    """One tag of the catalogue; coverage is None where it has not been worked out.

    ``as_of`` is the date that its values are of, None where that is not known; ``stale`` says why
    they are too old, "" where they are not.
    """

    key: str
    name: str
    name_zh: str
    type: TagType
    source: str
    owner: str
    sensitivity: str
    refresh: str
    as_of: date | None
    stale: str
    users: int | None
    share: float | None
    top: str
    remark: str


@dataclass(frozen=True)
class CatalogueView:
    """The catalogue and the date of which its coverage is; None: no tags have been worked out."""

    day: date | None
    tags: tuple[TagLine, ...]


@dataclass(frozen=True)
class GroupLine:
    """One RFM group or AIPL stage on a date."""

    code: str
    name: str
    name_zh: str
    users: int
    share: float


@dataclass(frozen=True)
class GroupsView:
    """The groups of a date, the rule behind them, and the flow from an earlier date if asked."""

    table: str
    day: date
    groups: tuple[GroupLine, ...]
    rules: tuple[str, ...]


def check_catalogue(project: Project) -> dict[str, TagType]:
    """Types of all tags, by key; nothing is worked out.

    Raises:
        UserError: ``tags.yml`` is missing or wrong.
    """
    catalogue = catalogue_of(project)
    if catalogue.texts is not None:
        analyzer_of(catalogue.texts)
    return check_tags(project, catalogue.tags)


def view_catalogue(
    project: Project, day: date | None = None, *, personal: bool = False
) -> CatalogueView:
    """The tags of ``tags.yml`` with their coverage on a date.

    Args:
        project: the home.
        day: the execution date, on which tags are fresh or stale; None: the newest of which tags
            have been worked out, and they are fresh or stale today.
        personal: whether values of personal tags are shown.

    Raises:
        UserError: ``tags.yml`` is missing or wrong, or the tags of the date are not there.
    """
    tags = catalogue_of(project).tags
    types = check_tags(project, tags)
    asked_on = day or project.settings.current_date()
    day = day or max(written_days(project, TABLE), default=None)
    known: dict[str, Coverage] = {}
    standings: dict[str, Standing] = {}
    if day is not None:
        standings = standings_on(project, day)
        with open_engine(project.settings) as engine:
            values = bind_user_tags(engine, project, day)
            asked = [(key, kind) for key, kind in types.items() if key in values.columns]
            known = {one.key: one for one in coverage_of(engine, values, asked)}
    lines = []
    for tag in tags:
        standing = standings.get(tag.key)
        stale = stale_sentence(tag, standing, asked_on) if day is not None else ""
        as_of = standing.as_of if standing is not None else None
        coverage = known.get(tag.key)
        lines.append(_line(tag, types[tag.key], coverage, as_of, stale, personal=personal))
    return CatalogueView(day, tuple(lines))


def _line(
    tag: Tag,
    kind: TagType,
    coverage: Coverage | None,
    as_of: date | None,
    stale: str,
    *,
    personal: bool,
) -> TagLine:
    top = "" if coverage is None else ", ".join(f"{name}: {text}" for name, text in coverage.top)
    if top and tag.is_hidden(personal=personal):
        top = HIDDEN
    remarks = [f"use {tag.deprecated_by} instead" if tag.deprecated_by else "", stale]
    return TagLine(
        key=tag.key,
        name=tag.name,
        name_zh=tag.name_zh,
        type=kind,
        source=tag.source,
        owner=tag.owner,
        sensitivity=tag.sensitivity,
        refresh=tag.refresh,
        as_of=as_of,
        stale=stale,
        users=coverage.users if coverage else None,
        share=coverage.share if coverage else None,
        top=top,
        remark="; ".join(one for one in remarks if one),
    )


@dataclass(frozen=True)
class WordLine:
    """A word of items: how many have it, and its mean weight; of one item, its weight there."""

    word: str
    items: int
    weight: float


@dataclass(frozen=True)
class WordsView:
    """Words of the items of a snapshot, the most frequent first; of one item, by weight."""

    snapshot: date
    words: tuple[WordLine, ...]


def view_words(
    project: Project, day: date | None = None, *, item_id: str | None = None, top: int = 20
) -> WordsView:
    """The words of the items that an execution date sees.

    Args:
        project: the home.
        day: the execution date, which sees the newest items before it; None: today.
        item_id: only this item.
        top: words at most.

    Raises:
        UserError: no words have been made, or the item has none.
    """
    day = day or project.settings.current_date()
    only = f"where item_id = {literal(item_id)}" if item_id is not None else ""
    with open_engine(project.settings) as engine:
        words = bind_item_words(engine, project, day)
        if not words.files:
            raise UserError(
                f"no words of items of the days before {day} have been made; `usergrowth tags run` "
                "makes them where tags.yml has texts",
                code="tag.not_ready",
            )
        snapshot = engine.value(f"select max(ds) from {words}")
        rows = engine.rows(
            f"select word, count(*), avg(weight) from {words} {only} group by word "
            f"order by {'2 desc' if item_id is None else '3 desc'}, 1 limit {top}"
        )
    if item_id is not None and not rows:
        raise UserError(f"item {item_id!r} of {snapshot} has no word", code="tag.not_ready")
    return WordsView(snapshot, tuple(WordLine(*row) for row in rows))


def view_groups(project: Project, table: str, day: date | None = None) -> GroupsView:
    """The RFM groups or AIPL stages of a date.

    Args:
        project: the home.
        table: ``rfm`` or ``aipl``.
        day: the execution date; None: the newest.

    Raises:
        UserError: the table is not there for the date.
    """
    day = _present(project, table, day)
    column, columns, _ = GROUPED[table]
    types = types_of(columns)
    with open_engine(project.settings) as engine:
        rows = bind_days(engine, project.warehouse, table, [day], types)
        counts = dict(engine.rows(f"select {identifier(column)}, count(*) from {rows} group by 1"))
        rules = _rules(engine, project, table, rows)
    everyone = sum(counts.values())
    return GroupsView(
        table,
        day,
        tuple(
            GroupLine(code, name, zh, counts.get(code, 0), counts.get(code, 0) / (everyone or 1))
            for code, name, zh in _names(table)
        ),
        rules,
    )


def _names(table: str) -> list[tuple[str, str, str]]:
    if table == aipl.TABLE:
        return [(code, name, zh) for code, (name, zh) in aipl.STAGES.items()]
    names = [(one.code, one.name, one.name_zh) for one in rfm.TYPES]
    return [*names, (rfm.NEVER_BOUGHT, "Never bought", "未购买")]


def _rules(engine: Engine, project: Project, table: str, rows: Relation) -> tuple[str, ...]:
    """The rule behind the groups, as ``tags.yml`` has it now."""
    catalogue = catalogue_of(project)
    if table == rfm.TABLE and catalogue.rfm is not None:
        return tuple(rfm.rule_sentences(engine, catalogue.rfm, str(rows)))
    if table == aipl.TABLE and catalogue.aipl is not None:
        return tuple(
            f"{stage}: {' or '.join(map(str, map(_rule, rules)))}"
            for stage, rules in reversed(catalogue.aipl.stages.items())
            if rules
        )
    return ()


def _rule(rule: Any) -> str:
    kinds = " or ".join(rule.behavior)
    text = f"{rule.at_least} × {kinds} in {rule.within_days} days"
    if rule.amount is not None:
        text += f" with {rule.amount} of {rule.amount_at_least:g} or more"
    return text


def view_flow(
    project: Project, table: str, first: date | None = None, last: date | None = None
) -> Flow:
    """The flow between two dates; by default the two newest that have been worked out.

    Raises:
        UserError: the table is not there for one of the dates, or for one date alone.
    """
    last = _present(project, table, last)
    if first is None:
        before = [day for day in written_days(project, table) if day < last]
        if not before:
            raise UserError(
                f"{table} of no date before {last} has been worked out; `usergrowth tags run "
                "--date DATE` does it",
                code="tag.not_ready",
            )
        first = before[-1]
    return flow_between(project, table, first, last)


def _present(project: Project, table: str, day: date | None) -> date:
    days: Sequence[date] = written_days(project, table)
    if day is None and days:
        return days[-1]
    if day is None:
        raise UserError(
            f"{table} has not been worked out for any date; `usergrowth tags run --date DATE` "
            "does it",
            code="tag.not_ready",
        )
    check_worked_out(project, table, day)
    return day


@dataclass(frozen=True)
class PersonTag:
    """A tag of one user: its value, or that it is hidden, and the date that the value is of."""

    key: str
    value: str | None
    as_of: date | None
    stale: str


def view_person_tags(
    project: Project, user_id: str, day: date | None = None, *, personal: bool = False
) -> list[PersonTag]:
    """Values of one user's tags on a date; sensitive ones are hidden, personal ones unless asked.

    Raises:
        UserError: the tags of the date are not there, or not of this user.
    """
    day = _present(project, TABLE, day)
    catalogue = {tag.key: tag for tag in catalogue_of(project).tags}
    keys = [key for key in tag_types(project) if key in catalogue]
    with open_engine(project.settings) as engine:
        values = bind_user_tags(engine, project, day)
        selected = ", ".join(f"cast({identifier(key)} as varchar)" for key in keys)
        rows = engine.rows(f"select {selected} from {values} where user_id = {literal(user_id)}")
    if not rows:
        raise UserError(f"no user {user_id!r} was known on {day}", code="person.unknown")
    standings = standings_on(project, day)
    values_of_user = []
    for key, value in zip(keys, rows[0], strict=True):
        hide = value is not None and catalogue[key].is_hidden(personal=personal)
        standing = standings.get(key)
        stale = stale_sentence(catalogue[key], standing, day)
        as_of = standing.as_of if standing is not None else None
        values_of_user.append(PersonTag(key, HIDDEN if hide else value, as_of, stale))
    return values_of_user
