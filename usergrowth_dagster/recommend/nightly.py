"""Recommends items to every user of a home, as of an execution date: two Delta tables and a file.

The order is chosen on the last days before the date, with routes that learned from the days before
those; then the routes learn from all days. Nothing of the date or later is read.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.project import Project
from usergrowth_dagster.recommend.definition import FILE_NAME, Recommend, read_recommend
from usergrowth_dagster.recommend.landed import Landed, bind_inputs, read_landed
from usergrowth_dagster.recommend.learned import Learned, learn
from usergrowth_dagster.recommend.ranker import choose_order
from usergrowth_dagster.recommend.recommender import Recommender
from usergrowth_dagster.recommend.routes.categories import Categories
from usergrowth_dagster.recommend.routes.neighbours import Neighbours, strongest
from usergrowth_dagster.recommend.routes.popular import Popular
from usergrowth_dagster.recommend.saved import Saved, is_saved, save
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.recommendations import COLUMNS, TABLE

if TYPE_CHECKING:
    import pyarrow as pa

ROUTES = "recommendation_routes"
VERSION = "1"
"""Raised when the same definition and inputs would give other rows."""

ROUTE_COLUMNS: dict[str, tuple[str, str]] = {
    "ds": ("DATE", "execution date"),
    "route": ("VARCHAR", "i2i, next, c2i, popular or new"),
    "source": ("VARCHAR", "the item or the category that it starts from; empty: anything"),
    "rank": ("INTEGER", "place among the items of the source, from 1"),
    "item_id": ("VARCHAR", "the item"),
    "score": ("DOUBLE", "of the route"),
}

_KEPT = 100
"""Items of a source of a route that are kept in the table."""


@dataclass(frozen=True)
class Recommended:
    """The tables of a date as they stand after a run.

    Attributes:
        day: the execution date.
        rows: of :data:`TABLE`.
        route_rows: of :data:`ROUTES`.
        order: name of the order of the candidates.
        tried: NDCG@10 of each order on the slice; empty where the rows stood already.
        unchanged: whether they stood already.
    """

    day: date
    rows: int
    route_rows: int
    order: str
    tried: dict[str, float]
    unchanged: bool


def learn_recommender(landed: Landed, keys: Recommend, *, seed: int) -> Recommender:
    """Choose an order on the last days, and learn from all.

    Args:
        landed: as of the execution date.
        keys: the definition.
        seed: of everything that draws at random.
    """
    early = landed.before(keys.slice_days)
    answer = landed.next_items(keys.slice_days)
    order = choose_order(learn(early, seed=seed), early, answer, seed=seed)
    return Recommender(
        user_ids=landed.user_ids,
        item_ids=landed.item_ids,
        history=landed.history,
        learned=learn(landed.history, seed=seed),
        order=order,
        barred=landed.barred,
        group=landed.group,
        per_category=keys.per_category,
        seed=seed,
    )


def recommend_day(project: Project, day: date) -> Recommended:
    """Write the tables and the file of an execution date, unless they stand already.

    Raises:
        UserError: ``recommend.yml`` is wrong, or no behavior with an item has landed before it.
    """
    warehouse, seed, home = project.warehouse, project.settings.seed, project.settings.home
    keys = read_recommend(home / FILE_NAME)
    with open_engine(project.settings) as engine:
        inputs = bind_inputs(engine, project, keys, day)
        parts = [VERSION, str(seed), keys.model_dump_json()]
        parts += [inputs.behavior.fingerprint, inputs.items.fingerprint]
        mark = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
        if warehouse.fingerprint(TABLE, day) == mark and is_saved(home, day, mark):
            note = warehouse.notes(TABLE, first=day, last=day).get(day, {})
            return _standing(project, day, str(note.get("order", "")), {}, unchanged=True)
        landed = read_landed(engine, inputs, keys, day)
    made = learn_recommender(landed, keys, seed=seed)
    save(home, Saved(day, mark, keys.trial, made))
    warehouse.replace(ROUTES, _route_rows(made.learned, landed, day), days=[day])
    warehouse.replace(
        TABLE,
        lambda: _list_rows(made, landed, keys.top, day),
        days=[day],
        fingerprints={day: mark},
        notes={day: {"order": made.order.name}},
    )
    return _standing(project, day, made.order.name, made.order.tried, unchanged=False)


def _standing(
    project: Project, day: date, order: str, tried: dict[str, float], *, unchanged: bool
) -> Recommended:
    rows, route_rows = (
        project.warehouse.row_counts(name, first=day, last=day).get(day, 0)
        for name in (TABLE, ROUTES)
    )
    return Recommended(day, rows, route_rows, order, tried, unchanged)


def _list_rows(made: Recommender, landed: Landed, top: int, day: date) -> "pa.RecordBatchReader":
    """The lists of all users as a stream of batches, with the columns of :data:`COLUMNS`."""
    import pyarrow as pa

    titles = dict(zip(landed.item_ids, landed.titles, strict=True))
    texts = [(name, pa.string()) for name in ("user_id", "item_id", "title", "routes")]
    kinds = dict([("ds", pa.date32()), ("rank", pa.int32()), ("score", pa.float64()), *texts])
    schema = pa.schema([(name, kinds[name]) for name in COLUMNS])

    def batches() -> "Iterator[pa.RecordBatch]":
        for lists in made.everyone(top):
            columns = {
                **vars(lists),
                "ds": [day] * len(lists.rank),
                "title": [titles[one] for one in lists.item_id],
            }
            arrays = [pa.array(columns[name], kinds[name]) for name in COLUMNS]
            yield pa.record_batch(arrays, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _route_rows(learned: Learned, landed: Landed, day: date) -> "pa.Table":
    """The first items of each source of each route, with the columns of :data:`ROUTE_COLUMNS`."""
    import pyarrow as pa
    from scipy import sparse

    parts = []
    for route in learned.routes:
        if isinstance(route, Neighbours):
            parts.append(_source_rows(route.name, route.near, landed.item_ids, landed, day))
        elif isinstance(route, Categories):
            parts.append(_source_rows(route.name, route.first, landed.category_names, landed, day))
        elif isinstance(route, Popular):
            weights = sparse.csr_matrix(route.weights[None, :])
            parts.append(_source_rows(route.name, weights, ("",), landed, day))
    return pa.concat_tables(parts)


def _source_rows(
    route: str, matrix: Any, sources: tuple[str, ...], landed: Landed, day: date
) -> "pa.Table":
    """The rows of one route of sparse sources x items."""
    import numpy as np
    import pyarrow as pa

    kept = strongest(matrix.copy(), _KEPT).tocsr()
    counts = np.diff(kept.indptr)
    source = np.repeat(np.arange(kept.shape[0]), counts)
    order = np.lexsort((kept.indices, -kept.data, source))
    rank = np.arange(len(order)) - np.repeat(kept.indptr[:-1], counts) + 1
    return pa.table(
        {
            "ds": pa.array([day] * len(order), pa.date32()),
            "route": pa.array([route] * len(order), pa.string()),
            "source": pa.array(sources, pa.string()).take(pa.array(source)),
            "rank": pa.array(rank, pa.int32()),
            "item_id": pa.array(landed.item_ids, pa.string()).take(pa.array(kept.indices[order])),
            "score": pa.array(kept.data[order], pa.float64()),
        }
    )
