"""A home whose users buy the items of a ring one after the other, as tables that have landed."""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.project import Project
from usergrowth_dagster.recommend.nightly import recommend_day
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.models import load_graph

DAY = date(2024, 3, 1)
USERS, ITEMS = 150, 30
SOLD_OUT, BLOCKED, GONE = "i03", "i04", "i05"
KEYS = f"""
behaviors: [buy]
category: genre
title: name
stock: stock
block: [{BLOCKED}]
lookback_days: 60
top: 6
per_category: 4
"""


def walks() -> list[tuple[date, str, str, str]]:
    """Day, user, kind and item: a user buys items of a ring one after the other."""
    random = np.random.default_rng(11)
    rows = []
    for user in range(USERS):
        start, length = int(random.integers(ITEMS)), int(random.integers(4, 8))
        days = np.sort(random.permutation(50)[:length])[::-1] + 1
        for step, back in enumerate(days.tolist()):
            item = f"i{(start + step) % ITEMS:02d}"
            rows.append((DAY - timedelta(days=back), f"u{user}", "buy", item))
    return rows


def write(project: Project, behavior: list[tuple[date, str, str, str]]) -> None:
    """Behavior and a snapshot of the items as the tables that landing makes."""
    graph = load_graph()
    events = ", ".join(f"(date '{ds}', '{u}', '{kind}', '{i}')" for ds, u, kind, i in behavior)
    items = ", ".join(
        f"(date '2024-01-01', 'i{n:02d}', map {{'stock': {0 if f'i{n:02d}' == SOLD_OUT else 9}.0}}, "
        f"map {{'genre': 'g{n % 3}|x', 'name': 'Item {n}'}})"
        for n in range(ITEMS)
        if f"i{n:02d}" != GONE
    )
    empty = "cast(null as map(varchar, double))"
    tables = {
        "stg_behavior": f"""
            select ds, user_id, behavior, item_id, 1.0::double as events, {empty} as hours,
                {empty} as amounts, cast(null as map(varchar, varchar)) as kvs_str
            from (values {events}) as t(ds, user_id, behavior, item_id)""",
        "stg_item": f"select * from (values {items}) as t(ds, item_id, kvs_num, kvs_str)",
    }
    with open_engine(project.settings) as engine:
        for table, sql in tables.items():
            days = [row[0] for row in engine.rows(f"select distinct ds from ({sql})")]
            columns = ", ".join(graph.types(table))
            project.warehouse.replace(
                table, engine.arrow(f"select {columns} from ({sql})"), days=days
            )


def make_ring(home: Path, more: str = "", days: Sequence[date] = (DAY,)) -> Path:
    """A home on the date, with recommendations of some days; ``more`` are keys of recommend.yml."""
    project = Project(make_home(home, {"today": str(DAY)}))
    write(project, walks())
    (home / "recommend.yml").write_text(KEYS + more)
    for day in days:
        assert not recommend_day(project, day).unchanged
    return project.settings.home
