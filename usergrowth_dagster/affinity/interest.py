"""Ranks the users of each category of items by their interest in it, as of an execution date.

The interest of a user in a category is the sum of three parts:

* time: the sigmoid of S = Σ events · e^(-η·months), where months are whole months from the
  behavior to the date;
* amount: the user's sum of amounts in the category;
* terms: tf-idf of the category as a term of the user, (events in it / events in all) ·
  ln(users / users with the category).

The last two are scaled by min-max over the users of the category: 0 for the least, 1 for the
greatest, and 0 for all where they are equal. (The scheme is that of a DMP course by a vendor.)

Only days before the date count. An item with several values of the attribute counts in each. The
categories may also be the words of the items' texts.
"""

import hashlib
from dataclasses import dataclass
from datetime import date, timedelta

from usergrowth_dagster.affinity.interest_file import FILE_NAME, Interest, read_interest
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import identifier, literal, literals
from usergrowth_dagster.tags.definition import FILE_NAME as TAGS_FILE
from usergrowth_dagster.tags.definition import read_catalogue
from usergrowth_dagster.tags.item_words import bind_item_words, write_item_words
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.relation import Relation, bind_days, bind_query

TABLE = "interest_ranking"
VERSION = "1"
"""Raised when the same definition and inputs would give other rows."""

BEHAVIOR, CATEGORIES = "stg_behavior", "item_category"
WORD = "word"
"""Key that stands for the words of the items' texts, where they are the categories."""

COLUMNS: dict[str, tuple[str, str]] = {
    "ds": ("DATE", "execution date"),
    "category": ("VARCHAR", "the category"),
    "rank": ("INTEGER", "place of the user in it, from 1"),
    "user_id": ("VARCHAR", "the user"),
    "interest": ("DOUBLE", "sum of the three scores"),
    "time_score": ("DOUBLE", "sigmoid of the decayed events"),
    "amount_score": ("DOUBLE", "amount, scaled over the users of the category"),
    "term_score": ("DOUBLE", "tf-idf, scaled over the users of the category"),
    "events": ("DOUBLE", "events in the category"),
    "decayed_events": ("DOUBLE", "events, decayed by month"),
    "amount": ("DOUBLE", "sum of amounts in the category"),
    "tf_idf": ("DOUBLE", "tf-idf of the category as a term of the user"),
}


@dataclass(frozen=True)
class Ranked:
    """The table of a date as it stands after a run.

    Attributes:
        day: the execution date.
        rows: of the date.
        version: Delta version that holds them.
        unchanged: whether they stood already.
    """

    day: date
    rows: int
    version: int | None
    unchanged: bool


def interest_of(project: Project) -> Interest:
    """What the home's ``interest.yml`` asks for.

    Raises:
        UserError: the file is missing or breaks its format.
    """
    return read_interest(project.settings.home / FILE_NAME)


def rank_interest(project: Project, day: date) -> Ranked:
    """Write the table ``interest_ranking`` of an execution date, unless it stands already.

    Raises:
        UserError: ``interest.yml`` is wrong, or no behavior or item with the attribute has landed
            before the date.
    """
    keys = interest_of(project)
    graph, warehouse = load_graph(), project.warehouse
    wanted = {day - timedelta(days=back) for back in range(1, keys.lookback_days + 1)}
    if keys.words:
        _make_words(project, day)
    with open_engine(project.settings) as engine:
        behavior = bind_days(engine, warehouse, BEHAVIOR, wanted, graph.types(BEHAVIOR))
        items = _bind_items(engine, project, keys, day)
        if not behavior.files or not items.files:
            kind = "words" if keys.words else "attributes"
            missing = f"items with {kind}" if behavior.files else "behavior"
            raise UserError(
                f"no {missing} of the days before {day} stand in the tables",
                code="source.not_landed",
            )
        # without words, the fingerprint is that of releases that did not know them
        definition = keys.model_dump_json(exclude=None if keys.words else {"words"})
        parts = [VERSION, definition, behavior.fingerprint, items.fingerprint]
        mark = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
        unchanged = warehouse.fingerprint(TABLE, day) == mark
        if not unchanged:
            _check_behavior(engine, keys, str(behavior))
            sql = interest_sql(keys, day, str(behavior), str(items))
            warehouse.replace(
                TABLE,
                lambda: engine.stream(f"{sql} order by category, rank"),
                days=[day],
                fingerprints={day: mark},
            )
    rows = warehouse.row_counts(TABLE, first=day, last=day).get(day, 0)
    return Ranked(day, rows, warehouse.version(TABLE), unchanged)


def _make_words(project: Project, day: date) -> None:
    """Bring the words of the items up to date.

    Raises:
        UserError: ``tags.yml`` does not say where the words are.
    """
    path = project.settings.home / TAGS_FILE
    texts = read_catalogue(path).texts if path.exists() else None
    if texts is None:
        raise UserError(
            f"{FILE_NAME}: words: {TAGS_FILE} has no texts, which say where an item's words are; "
            "add them",
            code="affinity.invalid",
        )
    write_item_words(project, texts, day)


def _bind_items(engine: Engine, project: Project, keys: Interest, day: date) -> Relation:
    """The categories of the items that a date sees, with the columns of ``item_category``.

    Raises:
        UserError: no item has the attribute.
    """
    if keys.words:
        words = bind_item_words(engine, project, day)
        sql = (
            f"select ds, item_id, {literal(WORD)} as category_key, word as category_value "
            f"from {words}"
        )
        return bind_query(engine, "item_terms", sql, of=[words])
    snapshot = [one for one in project.warehouse.days(CATEGORIES) if one < day][-1:]
    types = load_graph().types(CATEGORIES)
    items = bind_days(engine, project.warehouse, CATEGORIES, snapshot, types)
    if snapshot:
        _check_category(engine, keys, items, snapshot[0])
    return items


def _check_category(engine: Engine, keys: Interest, items: Relation, snapshot: date) -> None:
    """Refuse an attribute that no item has."""
    sql = f"select distinct category_key from {items} order by 1"
    known = [str(row[0]) for row in engine.rows(sql)]
    if keys.category not in known:
        raise UserError(
            f"{FILE_NAME}: category: no item of {snapshot} has the attribute {keys.category!r}; "
            f"they have {', '.join(known[:20])}",
            code="affinity.invalid",
        )


def _check_behavior(engine: Engine, keys: Interest, behavior: str) -> None:
    """Refuse a kind of behavior, or an amount, that no row has: it would count as nothing."""
    kinds = "select distinct behavior from {0} order by 1"
    amounts = "select distinct unnest(map_keys(amounts)) from {0} order by 1"
    for key, wanted, sql in (
        ("behaviors", keys.behaviors, kinds),
        ("amount", (keys.amount,) if keys.amount else (), amounts),
    ):
        known = [str(row[0]) for row in engine.rows(sql.format(behavior))] if wanted else []
        for name in wanted:
            if name not in known:
                raise UserError(
                    f"{FILE_NAME}: {key}: no behavior of the {keys.lookback_days} days before the "
                    f"date has {name!r}; they have {', '.join(known[:20]) or 'none'}",
                    code="affinity.invalid",
                )


def interest_sql(keys: Interest, day: date, behavior: str, items: str) -> str:
    """The query of the table, with the columns of :data:`COLUMNS`.

    Args:
        keys: the definition.
        day: the execution date.
        behavior: relation like ``stg_behavior``, of the days that count.
        items: relation like ``item_category``, of one snapshot.
    """
    amount = "0.0" if keys.amount is None else f"coalesce(amounts[{literal(keys.amount)}], 0)"
    kinds = f"and behavior in ({literals(keys.behaviors)})" if keys.behaviors else ""
    at = f"date {literal(day.isoformat())}"
    cast = ", ".join(
        f"cast({identifier(name)} as {kind}) as {identifier(name)}"
        for name, (kind, _) in COLUMNS.items()
    )
    return f"""
with counted as (
    select user_id, item_id, date_sub('month', ds, {at}) as months,
        stable_sum(events) as events, stable_sum({amount}) as amount
    from {behavior}
    where item_id is not null and ds < {at} {kinds}
    group by all
),
terms as (
    select c.user_id, i.category_value as category, stable_sum(c.events) as events,
        stable_sum(c.events * exp(-{keys.decay!r} * c.months)) as decayed_events,
        stable_sum(c.amount) as amount
    from counted as c
    inner join {items} as i on c.item_id = i.item_id
    where i.category_key = {literal(keys.category or WORD)}
    group by all
),
weighed as (
    select *,
        events / sum(events) over (partition by user_id) * ln(
            (select count(distinct user_id) from terms) / count(*) over (partition by category)
        ) as tf_idf
    from terms
),
scored as (
    select *,
        1 / (1 + exp(-decayed_events)) as time_score,
        {_scaled("amount")} as amount_score,
        {_scaled("tf_idf")} as term_score
    from weighed
),
summed as (
    select *, {at} as ds, time_score + amount_score + term_score as interest from scored
),
ranked as (
    select *, row_number() over (
        partition by category order by round(interest, 9) desc, user_id
    ) as rank
    from summed
    qualify rank <= {keys.top}
)
select {cast} from ranked"""


def _scaled(column: str) -> str:
    """A column scaled by min-max over the users of a category; 0 where all are equal."""
    over = "over (partition by category)"
    return (
        f"coalesce(({column} - min({column}) {over}) / "
        f"nullif(max({column}) {over} - min({column}) {over}, 0), 0)"
    )
