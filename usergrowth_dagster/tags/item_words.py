"""The table ``item_words``: the words of each item's texts, weighed by tf-idf.

A word's weight in an item is n · (ln((1 + items) / (1 + items with the word)) + 1), where n is how
often the item has it, divided by the root of the sum of the squares of the item's weights. These
are the weights of scikit-learn's TfidfVectorizer. Texts are read in batches, and everything else is
a query, so memory does not grow with the items.

``ds`` is the day of the snapshot of the items. An execution date sees the newest one before it.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.tags.definition import FILE_NAME
from usergrowth_dagster.tags.inputs import Written
from usergrowth_dagster.tags.text_keys import ItemTexts
from usergrowth_dagster.tags.tokens import Analyzer, analyzer_of, cutter_version
from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.relation import Relation, bind_days

if TYPE_CHECKING:
    import pyarrow as pa

TABLE = "item_words"
ITEMS = "stg_item"
VERSION = "1"
"""Raised when the same texts would give other words or weights."""

COLUMNS: dict[str, tuple[str, str]] = {
    "ds": ("DATE", "day of the snapshot of the items"),
    "item_id": ("VARCHAR", "the item"),
    "place": ("INTEGER", "place of the word in the item, from 1"),
    "word": ("VARCHAR", "the word"),
    "weight": ("DOUBLE", "its tf-idf in the item, from 0 to 1"),
}

_BATCH = 4096  # texts that are in memory at once


@dataclass(frozen=True)
class ItemWords:
    """The table as it stands after a run.

    Attributes:
        written: the rows of the snapshot.
        notice: what people should know, in a sentence; "" for nothing.
    """

    written: Written
    notice: str


def snapshot_before(project: Project, day: date) -> date:
    """The day of the newest items that an execution date may see.

    Raises:
        UserError: no items have landed before it.
    """
    days = [one for one in project.warehouse.days(ITEMS) if one < day]
    if not days:
        raise UserError(
            f"{FILE_NAME}: texts: no items of the days before {day} stand in the tables",
            code="tag.not_ready",
        )
    return days[-1]


def write_item_words(project: Project, texts: ItemTexts, day: date) -> ItemWords:
    """Write the words of the items that an execution date sees, unless they stand already.

    Raises:
        UserError: no items have landed before the date, no item has one of the keys, or the
            language needs a package that is not installed.
    """
    snapshot, warehouse = snapshot_before(project, day), project.warehouse
    analyze = analyzer_of(texts)
    share = 0.5  # of the memory, for each of two engines
    with (
        open_engine(project.settings, share) as reading,
        open_engine(project.settings, share) as engine,
    ):
        items = bind_days(reading, warehouse, ITEMS, [snapshot], load_graph().types(ITEMS))
        parts = [VERSION, texts.model_dump_json(), cutter_version(texts), items.fingerprint]
        mark = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
        notice = _notice(reading, items, texts, snapshot)
        unchanged = warehouse.fingerprint(TABLE, snapshot) == mark
        if not unchanged:
            _load_tokens(engine, _texts_of(reading, items, texts), analyze)
            sql = words_sql(texts, snapshot)
            warehouse.replace(
                TABLE,
                lambda: engine.stream(f"{sql} order by item_id, place"),
                days=[snapshot],
                fingerprints={snapshot: mark},
            )
    rows = warehouse.row_counts(TABLE, first=snapshot, last=snapshot).get(snapshot, 0)
    if not rows:
        notice = f"no word of the items of {snapshot} is in {texts.least_items} items or more"
    return ItemWords(Written(TABLE, snapshot, rows, warehouse.version(TABLE), unchanged), notice)


def _notice(engine: Engine, items: Relation, texts: ItemTexts, snapshot: date) -> str:
    """How many items have no text; refuses a key that no item has."""
    counts = ", ".join(f"count(kvs_str[{literal(key)}])" for key in texts.keys)
    everything, without, *of_keys = engine.rows(
        f"select count(*), count(*) filter (where {_text_sql(texts)} = ''), {counts} from {items}"
    )[0]
    for key, count in zip(texts.keys, of_keys, strict=True):
        if not count:
            known = engine.rows(
                f"select distinct unnest(map_keys(kvs_str)) from {items} order by 1 limit 20"
            )
            listed = ", ".join(str(name) for (name,) in known) or "none"
            raise UserError(
                f"{FILE_NAME}: texts.keys: no item of {snapshot} has the attribute {key!r}; they "
                f"have {listed}",
                code="tag.invalid",
            )
    return f"{without:,} of {everything:,} items have no text" if without else ""


def _text_sql(texts: ItemTexts) -> str:
    values = ", ".join(f"kvs_str[{literal(key)}]" for key in texts.keys)
    return f"trim(concat_ws(' ', {values}))"


def _texts_of(engine: Engine, items: Relation, texts: ItemTexts) -> "pa.RecordBatchReader":
    text = _text_sql(texts)
    return engine.stream(f"select item_id, {text} as text from {items} where {text} <> ''", _BATCH)


def _load_tokens(engine: Engine, texts: "pa.RecordBatchReader", analyze: Analyzer) -> None:
    """Make the table ``tokens``: item_id, word, and n, how often the item has the word.

    An item whose text has no word has a row with the word "", so that it counts among the items.
    """
    import pyarrow as pa

    schema = pa.schema([("item_id", pa.string()), ("word", pa.string())])

    def batches() -> "Iterator[pa.RecordBatch]":
        for batch in texts:
            items: list[str] = []
            words: list[str] = []
            of_batch = zip(batch["item_id"].to_pylist(), batch["text"].to_pylist(), strict=True)
            for item, text in of_batch:
                of_item = analyze(text) or [""]
                items += [item] * len(of_item)
                words += of_item
            yield pa.record_batch([pa.array(items), pa.array(words)], schema=schema)

    engine.connection.register("_words", pa.RecordBatchReader.from_batches(schema, batches()))
    engine.run(
        "create temp table tokens as select item_id, word, count(*) as n from _words group by all"
    )
    engine.connection.unregister("_words")


def words_sql(texts: ItemTexts, snapshot: date) -> str:
    """The query of the table over ``tokens``, with the columns of :data:`COLUMNS`.

    Args:
        texts: what is kept.
        snapshot: the day of the items.
    """
    return f"""
with total as (
    select count(distinct item_id) as items from tokens
),
vocabulary as (
    select word, count(*) as items, sum(n) as times
    from tokens
    where word <> ''
    group by word
    having count(*) >= {texts.least_items}
        and count(*) <= {texts.most_share!r} * (select items from total)
    order by times desc, word
    limit {texts.words}
),
weighed as (
    select
        t.item_id, t.word,
        t.n * (ln((1 + (select items from total)) / (1 + v.items)) + 1) as weight
    from tokens as t
    inner join vocabulary as v on t.word = v.word
),
scaled as (
    select
        item_id, word,
        round(weight / sqrt(sum(weight * weight) over (partition by item_id)), 9) as weight
    from weighed
)
select
    date {literal(snapshot.isoformat())} as ds, item_id,
    cast(row_number() over (partition by item_id order by weight desc, word) as integer) as place,
    word, weight
from scaled
qualify place <= {texts.per_item}"""


def bind_item_words(engine: Engine, project: Project, day: date) -> Relation:
    """The words of the items that an execution date sees; empty where none have been made."""
    made = sorted(project.warehouse.fingerprints(TABLE, last=day - timedelta(days=1)))
    return bind_days(engine, project.warehouse, TABLE, made[-1:], types_of(COLUMNS))


def check_words_stand(project: Project, day: date) -> None:
    """Refuse to go on without the words of the items that an execution date sees.

    Raises:
        UserError: they have not been made, or no items have landed before the date.
    """
    snapshot = snapshot_before(project, day)
    if project.warehouse.fingerprint(TABLE, snapshot) is None:
        raise UserError(
            f"the words of the items of {snapshot} have not been made; `usergrowth tags run --date "
            f"{day}` does it",
            code="tag.not_ready",
        )
