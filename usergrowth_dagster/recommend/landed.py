"""What has landed before an execution date, as the history and the items of recommendation."""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal, literals
from usergrowth_dagster.recommend.definition import FILE_NAME, Recommend
from usergrowth_dagster.recommend.history import History, history_of
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.relation import Relation, bind_days

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from usergrowth_dagster.recommend.history import Floats, Ints

BEHAVIOR, ITEMS = "stg_behavior", "stg_item"


@dataclass(frozen=True)
class Landed:
    """Interactions by user and day, and the items that they are of.

    Attributes:
        user, item, age: number of user and item, and days to the date, oldest first within a user.
        user_ids, item_ids: by their numbers.
        titles: what a text shows of each item.
        categories: sparse items x categories.
        category_names: by their numbers.
        group: number of each item's first category; -1: it has none.
        barred: which items may not be shown: not in the newest snapshot, sold out, or blocked.
    """

    user: "Ints"
    item: "Ints"
    age: "Floats"
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    titles: tuple[str, ...]
    categories: Any
    category_names: tuple[str, ...]
    group: "Ints"
    barred: "npt.NDArray[np.bool_]"

    @cached_property
    def history(self) -> History:
        """All that has landed, as of the date."""
        return self.before(0)

    def before(self, days: int) -> History:
        """What had landed that many days before the date, as of then."""
        kept = self.age > days
        rows = (self.user[kept], self.item[kept], self.age[kept] - days)
        return history_of(*rows, len(self.user_ids), self.categories)

    def next_items(self, days: int) -> "Ints":
        """The first item of each user in the last days that it had not taken before; -1: none."""
        import numpy as np

        late = np.flatnonzero(self.age <= days)
        early = self.before(days).taken
        fresh = np.asarray(early[self.user[late], self.item[late]]).ravel() == 0
        late = late[fresh][::-1]
        made = np.full(len(self.user_ids), -1, dtype=np.int64)
        made[self.user[late]] = self.item[late]  # of several, the oldest is written last
        return made


@dataclass(frozen=True)
class Inputs:
    """The relations that a date's recommendations are made from."""

    behavior: Relation
    items: Relation


def bind_inputs(engine: Engine, project: Project, keys: Recommend, day: date) -> Inputs:
    """The behavior of the days that count, and the newest snapshot of the items before the date.

    Raises:
        UserError: no behavior stands.
    """
    graph = load_graph()
    wanted = {day - timedelta(days=back) for back in range(1, keys.lookback_days + 1)}
    behavior = bind_days(engine, project.warehouse, BEHAVIOR, wanted, graph.types(BEHAVIOR))
    if not behavior.files:
        raise UserError(
            f"no behavior of the {keys.lookback_days} days before {day} stands in the tables",
            code="source.not_landed",
        )
    snapshot = [one for one in project.warehouse.days(ITEMS) if one < day][-1:]
    items = bind_days(engine, project.warehouse, ITEMS, snapshot, graph.types(ITEMS))
    return Inputs(behavior, items)


def read_landed(engine: Engine, inputs: Inputs, keys: Recommend, day: date) -> Landed:
    """The history and the items of a date.

    Raises:
        UserError: no behavior of the kinds that count has an item, or no item has an attribute that
            a key names.
    """
    taken = engine.arrow(_taken_sql(keys, day, str(inputs.behavior)))
    _check_items(engine, inputs.items, keys)
    known = engine.arrow(_items_sql(keys, str(inputs.items))) if inputs.items.files else None
    if not taken.num_rows:
        kinds = f" and is of the kinds {', '.join(keys.behaviors)}" if keys.behaviors else ""
        raise UserError(
            f"no behavior of the {keys.lookback_days} days before {day} has an item{kinds}",
            code="recommend.invalid",
        )
    return _landed(taken, known, keys)


def _check_items(engine: Engine, items: Relation, keys: Recommend) -> None:
    """Refuse an attribute that no item has: it would count as nothing."""
    named = {"category": keys.category, "title": keys.title, "stock": keys.stock}
    for key, name in named.items():
        if name is None:
            continue
        column = "kvs_num" if key == "stock" else "kvs_str"
        sql = f"select distinct unnest(map_keys({column})) from {items} order by 1"
        known = [str(row[0]) for row in engine.rows(sql)]
        if name not in known:
            raise UserError(
                f"{FILE_NAME}: {key}: no item of the newest snapshot before the date has the "
                f"attribute {name!r}; they have {', '.join(known[:20]) or 'none'}",
                code="recommend.invalid",
            )


def _taken_sql(keys: Recommend, day: date, behavior: str) -> str:
    """User, item and age; within a day the order is not known, and is that of a hash."""
    kinds = f"and behavior in ({literals(keys.behaviors)})" if keys.behaviors else ""
    at = f"date {literal(day.isoformat())}"
    return f"""
        select user_id, item_id, cast(date_diff('day', ds, {at}) as float) as age
        from (select distinct user_id, item_id, ds from {behavior}
              where item_id is not null and ds < {at} {kinds})
        order by user_id, ds, hash(item_id), item_id"""


def _items_sql(keys: Recommend, items: str) -> str:
    def text(key: str | None) -> str:
        return "cast(null as varchar)" if key is None else f"kvs_str[{literal(key)}]"

    stock = "true" if keys.stock is None else f"coalesce(kvs_num[{literal(keys.stock)}], 0) > 0"
    return f"""
        select item_id, {text(keys.title)} as title, {stock} as in_stock,
            string_split(coalesce({text(keys.category)}, ''), '|') as categories
        from {items} order by item_id"""


def _landed(taken: Any, known: Any, keys: Recommend) -> Landed:
    import numpy as np
    from scipy import sparse

    users = taken["user_id"].combine_chunks().dictionary_encode()
    items = taken["item_id"].combine_chunks().dictionary_encode()
    item_ids = tuple(items.dictionary.to_pylist())
    numbers = {item_id: number for number, item_id in enumerate(item_ids)}
    group = np.full(len(item_ids), -1, dtype=np.int64)
    titles, shown = list(item_ids), np.full(len(item_ids), known is None)
    names: dict[str, int] = {}
    pairs: list[tuple[int, int]] = []
    for row in known.to_pylist() if known is not None else []:
        number = numbers.get(row["item_id"])
        if number is None:
            continue
        titles[number] = row["title"] or row["item_id"]
        shown[number] = row["in_stock"]
        values = [name for name in dict.fromkeys(row["categories"]) if name]
        pairs += [(number, names.setdefault(name, len(names))) for name in values]
        group[number] = names[values[0]] if values else -1
    shown[[numbers[one] for one in keys.block if one in numbers]] = False
    at = tuple(np.array(pairs, dtype=np.int64).reshape(-1, 2).T)
    shape = (len(item_ids), max(len(names), 1))
    return Landed(
        users.indices.to_numpy().astype(np.int64),
        items.indices.to_numpy().astype(np.int64),
        taken["age"].to_numpy(),
        tuple(users.dictionary.to_pylist()),
        item_ids,
        tuple(titles),
        sparse.csr_matrix((np.ones(len(pairs), np.float32), at), shape=shape),
        tuple(names),
        group,
        ~shown,
    )
