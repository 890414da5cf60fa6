"""Facts, features and label of one date, beside pandas, polars and a bare scan."""

import shutil
import statistics
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from measured import ROOT, Row, Size, Used, python
from world import LAST, World, build_facts, make_world

USERS: dict[Size, int] = {"tiny": 300, "normal": 100_000, "full": 100_000}
TIMES: dict[Size, int] = {"tiny": 1, "normal": 2, "full": 3}
LABELLED = LAST - timedelta(days=6)
RIVALS = ROOT / "benchmarks" / "rivals"


def measure(size: Size, work: Path) -> Iterator[Row]:
    """The rows of this module; see :class:`measured.Measure`."""
    world = make_world(work / "world", USERS[size], 400, items=False)
    build_facts(world, [LAST - timedelta(days=i) for i in range(399, 0, -1)])
    warm(world, work)
    ours, pandas, polars, scan = [], [], [], []
    for turn in range(TIMES[size]):
        home = copy(world, work / f"turn-{turn}")
        ours.append(seconds(one_date(home, world.execution_date)))
        pandas.append(rival("pandas_features", world, work / "pandas"))
        polars.append(rival("polars_features", world, work / "polars"))
        scan.append(scanned(world))
        if turn == 0:
            check(home, world.execution_date, work)
        shutil.rmtree(home)
    one = statistics.median(ours)
    what = f"facts, features and label of one date, {world.users:,} users, {events(world)}"
    columns = "131 columns and the label, values equal"
    yield Row(
        what,
        f"pandas, {columns}",
        one,
        statistics.median(pandas),
        "≥ 5× faster",
        5,
        "faster",
        note="ours also tests the rows and commits them to a versioned table, a quarter of its "
        "time; the rivals hold theirs in memory. Adding up by age first, or by arithmetic "
        "instead of FILTER, costs the same; integers in place of text ids would halve the "
        "grouping, and need a dictionary of all people that does not spill",
    )
    yield Row(
        what,
        f"polars, {columns}",
        one,
        statistics.median(polars),
        "≥ 1.5× faster",
        1.5,
        "faster",
        note="as above",
    )
    yield Row(
        what,
        "DuckDB scanning and summing the same columns of the facts",
        one,
        statistics.median(scan),
        "≤ 6×",
        6,
        "slower",
        note="the scan sums a few columns and writes nothing",
    )


def events(world: World) -> str:
    """How many events the lookback and the history hold."""
    ((recent, history),) = duckdb.sql(
        f"select count(*) filter (where ds > date '{LAST}' - 90), count(*) "
        f"from '{world.events}' where ds > date '{LAST}' - 365"
    ).fetchall()
    return f"{recent / 1e6:.1f} million events in 90 days, {history / 1e6:.1f} in 365"


def copy(world: World, folder: Path) -> Path:
    """A copy of the home whose data files are shared with it."""
    shutil.copytree(world.settings.home, folder, copy_function=_link)
    return folder


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def warm(world: World, work: Path) -> None:
    """Keep the closed months, as the date before would have done."""
    home = copy(world, work / "warm")
    one_date(home, world.execution_date - timedelta(days=1), labels=False)
    months = Path("storage", "months")
    shutil.copytree(home / months, world.settings.home / months)
    shutil.rmtree(home)


def one_date(home: Path, day: date, *, labels: bool = True) -> Used:
    """Build one date in a process of its own."""
    more = ["--labels", LABELLED.isoformat()] if labels else []
    program = ROOT / "benchmarks" / "one_date.py"
    return python(program, home, "--dates", day.isoformat(), *more)


def seconds(used: Used) -> float:
    """What a program said it took."""
    assert isinstance(used.answer, dict)
    return float(used.answer["seconds"])


def rival(name: str, world: World, out: Path) -> float:
    """Seconds of a rival, imports left out."""
    out.mkdir(exist_ok=True)
    dates = (world.execution_date.isoformat(), LABELLED.isoformat())
    threads = str(world.settings.threads)
    program = RIVALS / f"{name}.py"
    return seconds(python(program, world.events, *dates, out, POLARS_MAX_THREADS=threads))


def scanned(world: World) -> float:
    """Seconds of DuckDB for the sums of all that features read of a year of facts."""
    first = LAST - timedelta(days=364)
    tables = world.settings.storage_root + "/tables"
    program = f"""
import duckdb, json, time
connection = duckdb.connect(config={{"threads": {world.settings.threads}}})
started = time.perf_counter()
connection.sql("select sum(events), sum(list_sum(map_values(kinds))), "
    "sum(list_sum(map_values(amounts))), sum(list_sum(map_values(hours))), max(user_id) "
    "from read_parquet('{tables}/user_day/*/*.parquet', hive_partitioning=true) "
    "where ds >= date '{first}'").fetchall()
connection.sql("select sum(events), max(user_id), max(item_id) "
    "from read_parquet('{tables}/user_item_day/*/*.parquet', hive_partitioning=true) "
    "where ds >= date '{LAST - timedelta(days=89)}'").fetchall()
print(json.dumps({{"seconds": time.perf_counter() - started}}))
"""
    return seconds(python("-c", program))


def check(home: Path, day: date, work: Path) -> None:
    """Hold the product's values against both rivals'.

    Raises:
        AssertionError: they differ.
    """
    tables = home / "storage" / "tables"
    made = duckdb.sql(
        f"select * from read_parquet('{tables}/user_features/ds={day}/*.parquet')"
    ).to_arrow_table()
    ours = flat(made.to_pandas(maps_as_pydicts="strict").set_index("user_id"))
    label = duckdb.sql(
        f"select * from read_parquet('{tables}/churn_label/ds={LABELLED}/*.parquet')"
    ).df()
    label = label.set_index("user_id").sort_index()
    for name in ("pandas", "polars"):
        theirs = pd.read_parquet(work / name / "features.parquet")
        theirs = theirs.set_index("user_id") if "user_id" in theirs else theirs
        same(ours, theirs.sort_index(), name)
        labels = pd.read_parquet(work / name / "label.parquet")
        labels = labels.set_index("user_id") if "user_id" in labels else labels
        same(label, labels.sort_index(), name)


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Map columns as one column for each key; a user without the key has 0."""
    parts = [frame]
    for name in frame.columns:
        if frame[name].map(lambda value: isinstance(value, dict)).any():
            wide = pd.DataFrame(
                [value or {} for value in frame[name]], index=frame.index, dtype=float
            )
            wide.columns = [f"{name}[{key}]" for key in wide.columns]
            parts.append(wide.fillna(0))
    return pd.concat(parts, axis=1).sort_index()


def same(ours: pd.DataFrame, theirs: pd.DataFrame, rival_name: str) -> None:
    """Hold every column of a rival against ours, to nine digits."""
    assert list(ours.index) == list(theirs.index), f"{rival_name}: other users"
    for column in theirs.columns:
        one, other = ours[column].astype(float), theirs[column].astype(float)
        if column.startswith(("amount_", "history_amount", "kind_", "history_kind", "items_")):
            other = other.fillna(0)
            one = one.fillna(0)
        wrong = ~np.isclose(one, other, rtol=1e-8, atol=1e-8, equal_nan=True)
        assert not wrong.any(), (
            f"{rival_name}: {column}: {int(wrong.sum())} users differ, first "
            f"{ours.index[wrong][0]}: {one[wrong].iloc[0]} and {other[wrong].iloc[0]}"
        )
