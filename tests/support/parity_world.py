"""The rows of every model on DuckDB, as Parquet files that another engine can read.

Two worlds: the landed rows of the example, and rows at random with what engines read in different
ways: NULLs, ties, texts of many alphabets, empty days, numbers without a value, and a small
``top_n``, so that most kinds and keys are 'other'.
"""

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.warehouse.duckdb_rows import bind_dates, bind_settings
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.models import (
    AS_OF_DATES,
    RUN_SETTING_NAMES,
    RUN_SETTINGS,
    load_graph,
)
from usergrowth_dagster.warehouse.tables import Warehouse

GRAPH = load_graph()
FIRST = date(2024, 2, 1)
SPAN = 70
RANDOM_DATES = [FIRST + timedelta(days=n) for n in (0, 1, 31, 45, 60, SPAN + 5)]
"""Before the first row, on it, across the leap day, on an empty day, and after the last row."""
EMPTY_DAYS = {10, 11, 12, 45, 52}
USERS = [
    "u1",
    "U1",
    "用户",
    "ü",
    "u\u0308",
    "😀",
    "o'hara",
    "a b",
    *(f"u{n}" for n in range(2, 30)),
]
KINDS = ["login", "buy", "Buy", "购买", "other", "zzz", "😀"]
ITEMS = [None, "i1", "I1", "商品", "i 2", *(f"i{n}" for n in range(3, 12))]
NUMBERS = [None, "hh09:2 pay:1.5", "pay:3", "hh00:0", "hh23:1 hh09:1", "pay:-2.25 ¥:1e-3", "pay:0"]
NUMBERS += ["hh12:3 pay:0.1 价:7", "other:4 pay:1e6", "pay:-0.0", "hh06:2.5"]
TEXTS = [None, "genre:a|b", "genre:a|a|", "genre:摇滚|b lang:zh", "genre:|", "lang:en", "k:x=y"]


@dataclass(frozen=True)
class ParityWorld:
    """Folder of a Parquet file by relation, and the files of the dates of both kinds of models."""

    folder: Path

    def file(self, relation: str) -> str:
        """The rows of a relation."""
        return str(self.folder / f"{relation}.parquet")

    def dates(self, model: str) -> str:
        """The output days of a model."""
        return self.file(f"dates {'daily' if GRAPH.models[model].daily else 'as of'}")


def example_world(landed: Path, folder: Path) -> ParityWorld:
    """The models over the landed rows of an example home."""
    settings = load_settings(landed)
    warehouse = Warehouse(Storage(settings.storage_root))
    with open_engine(settings) as engine:
        for table, columns in GRAPH.sources.items():
            files = [name for names in warehouse.files(table).values() for name in names]
            engine.bind_files(table, files, columns)
        # days with touches of items, so that no model of pairs is empty
        sql = "select ds from raw_operation where item_id is not null group by ds order by ds"
        days = [row[0] for row in engine.rows(sql)]
        return _made(engine, settings, [days[len(days) // 3], days[-5]], folder)


def random_world(folder: Path) -> ParityWorld:
    """The models over rows at random, always the same ones."""
    settings = load_settings(
        folder / "home", lookback_days=14, history_days=30, label_horizon_days=10, top_n=2
    )
    rows = drawn_rows(random.Random(7))
    with open_engine(settings) as engine:
        for table, columns in GRAPH.sources.items():
            bind_drawn(engine, table, rows.get(table, ()), columns)
        return _made(engine, settings, RANDOM_DATES, folder)


def drawn_rows(rng: random.Random) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Rows of the landed tables, without a NULL or a pair of keys that landing refuses."""
    days = [FIRST + timedelta(days=n) for n in range(SPAN) if n not in EMPTY_DAYS]

    def drawn(count: int, **choices: Sequence[Any]) -> list[dict[str, Any]]:
        return [
            {"ds": rng.choice(days), **{name: rng.choice(some) for name, some in choices.items()}}
            for _ in range(count)
        ]

    def one_each(rows: Iterable[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
        return list({tuple(row[key] for key in keys): row for row in rows}.values())

    values = {"kvs_num": NUMBERS, "kvs_str": TEXTS}
    return {
        "raw_behavior": one_each(
            drawn(1500, user_id=USERS, behavior=KINDS, item_id=ITEMS, **values),
            *("ds", "user_id", "behavior", "item_id"),
        ),
        "raw_operation": one_each(
            drawn(
                200,
                user_id=USERS,
                target=["sms", "短信", "holdout"],
                item_id=ITEMS,
                kvs_num=[None, "propensity:0.5", "propensity:0.25 x:1"],
                kvs_str=[None, "channel:sms", "channel:短信"],
            ),
            *("ds", "user_id", "target", "item_id"),
        ),
        "raw_user": one_each(
            [
                *drawn(
                    80,
                    user_id=[*USERS, "never active"],
                    gender=[None, 0, 1],
                    age=[None, 18, 80],
                    reg_time=[None, "20240229", "19700101", "20240315"],
                    user_type=[None, "", "vip", "贵宾"],
                    **values,
                ),
                *newcomers(RANDOM_DATES[2]),
            ],
            *("ds", "user_id"),
        ),
        "raw_item": one_each(drawn(60, item_id=ITEMS[1:], **values), "ds", "item_id"),
        "population": [
            {"ds": day, "task_id": "t", "row": row, "user_id": user, "item_id": item}
            for day in RANDOM_DATES
            for row, (user, item) in enumerate(zip(USERS, ITEMS * 3, strict=False))
            if item is not None
        ],
    }


def newcomers(day: date) -> list[dict[str, Any]]:
    """Users of the snapshot before a day who have registered some days before it."""
    return [
        {
            "ds": day - timedelta(days=1),
            "user_id": user,
            "reg_time": f"{day - timedelta(days=1 + number % 9):%Y%m%d}",
        }
        for number, user in enumerate(USERS)
    ]


def bind_drawn(
    engine: Engine, table: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]
) -> None:
    """Make a table of rows; columns that they lack are NULL."""
    import pyarrow as pa

    body = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
    engine.run(f"create table {table} ({body})")
    if rows:
        engine.bind_arrow("drawn", pa.Table.from_pylist(list(rows)))
        engine.run(f"insert into {table} by name from drawn")


def _made(engine: Engine, settings: Settings, dates: Sequence[date], folder: Path) -> ParityWorld:
    """Make every model, inputs first, and write all relations to files."""
    world = ParityWorld(folder)
    folder.mkdir(exist_ok=True)
    bind_settings(engine, {name: getattr(settings, name) for name in RUN_SETTING_NAMES})
    landed = [row[0] for row in engine.rows("select distinct ds from raw_behavior order by ds")]

    def write(relation: str, name: str) -> None:
        engine.run(f"copy (from {relation}) to '{world.file(name)}' (format parquet)")

    for days, name in ((landed, "dates daily"), (dates, "dates as of")):
        bind_dates(engine, days)
        write(AS_OF_DATES, name)
    write(RUN_SETTINGS, RUN_SETTINGS)
    for table in GRAPH.sources:
        write(table, table)
    for model in GRAPH.order:
        bind_dates(engine, landed if GRAPH.models[model].daily else dates)
        engine.run(f"create table {model} as {GRAPH.models[model].sql}")
        write(model, model)
    return world


def differences(
    model: str, wanted: Sequence[Mapping[str, Any]], made: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Rows and columns that two engines make unequal, by the model's grain; none when all is equal.

    Floats are equal at a relative tolerance of 1e-9, 0.0 and -0.0 are, NaN is equal to NaN, and NULL
    to NULL alone. Maps are equal when their entries are, in their order.
    """
    keys = GRAPH.models[model].grain or tuple(GRAPH.types(model))

    def placed(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return sorted(rows, key=lambda row: (repr([row[key] for key in keys]), repr(row)))

    if len(wanted) != len(made):
        return [f"{len(made)} rows, not {len(wanted)}"]
    return [
        f"{[row[key] for key in keys]}: {column}: {other[column]!r}, not {value!r}"
        for row, other in zip(placed(wanted), placed(made), strict=True)
        for column, value in row.items()
        if not equal(value, other[column])
    ]


def equal(one: Any, other: Any) -> bool:
    """Whether two values are equal as :func:`differences` says."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and bool(one == other)
