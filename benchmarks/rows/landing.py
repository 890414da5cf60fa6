"""Landing a day of events with its contract beside DuckDB reading the same file unchecked.

Landing writes a table, so the rival writes Parquet with the same compression; the note says how
landing compares with a rival that only reads into memory. Each runs in a process of its own and
counts the CPU seconds of its work, without imports.
"""

import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path

import duckdb
from landing import DAY, SHAPES, write_day
from measured import ROOT, Row, Size, python

MEGABYTES: dict[Size, tuple[float, int]] = {"tiny": (1, 1), "normal": (100, 3), "full": (350, 3)}
"""Megabytes of CSV, and how many times ours and the rivals take turns."""

SHAPE, MEMORY, THREADS = "behavior", "1GB", 2
KEPT = (
    ". Good rows of events are written as they are read, before footers and shares of rejects are "
    "known; cells that are pairs are looked at once a value and block"
)
CSV = "read_csv('{file}', all_varchar = true, nullstr = '\\N')"
PARQUET = "read_parquet('{file}')"
RIVALS = {
    "to Parquet": "copy (from {source}) to '{out}' (format parquet, compression zstd)",
    "into memory": "create table held as from {source}",
}
UNCHECKED = """
import json, sys, time, duckdb
connection = duckdb.connect(config={"threads": int(sys.argv[2]), "memory_limit": sys.argv[3]})
used = time.process_time()
connection.execute(sys.argv[1]).fetchall()
print(json.dumps({"cpu": time.process_time() - used}))
"""


def measure(size: Size, work: Path) -> Iterator[Row]:
    """A row for CSV and one for Parquet; what has landed equals what the rival wrote."""
    megabytes, times = MEGABYTES[size]
    rows = write_day(work / "csv", SHAPE, megabytes)
    csv = next((work / "csv").rglob("*.csv"))
    parquet = work / "parquet" / csv.relative_to(work / "csv").with_suffix(".parquet")
    parquet.parent.mkdir(parents=True)
    duckdb.execute(f"copy (from {CSV.format(file=csv)}) to '{parquet}' (format parquet)")
    formats = (
        ("CSV", csv, CSV, 2.5, ""),
        ("Parquet", parquet, PARQUET, 2.0, KEPT),
    )
    for kind, file, scan, limit, why in formats:
        taken = _turns(file, scan.format(file=file), times)
        ours = statistics.median(taken.pop("ours"))
        written, held = (statistics.median(one) for one in taken.values())
        yield Row(
            f"{rows:,} rows of {kind} landed with their contract",
            "DuckDB copies the same file, unchecked, to Parquet",
            ours,
            written,
            f"≤ {limit:g}×",
            limit,
            "slower",
            "s CPU",
            f"{ours / held:.1f}× of DuckDB reading it into memory ({held:.2g} s CPU){why}",
        )


def _turns(file: Path, source: str, times: int) -> dict[str, list[float]]:
    """CPU seconds of landing and of each rival, which take turns."""
    taken: dict[str, list[float]] = {"ours": [], **{name: [] for name in RIVALS}}
    landing = file.parents[2]
    for turn in range(times):
        root = landing / f"turn-{turn}"
        root.mkdir()
        (root / SHAPES[SHAPE][0]).symlink_to(file.parents[1])
        arguments = ["--land", root, "--shape", SHAPE, "--memory-limit", MEMORY]
        script = ROOT / "benchmarks" / "landing.py"
        taken["ours"].append(_cpu(script, *arguments, "--threads", str(THREADS)))
        out = root / "unchecked.parquet"
        for name, sql in RIVALS.items():
            statement = sql.format(source=source, out=out)
            taken[name].append(_cpu("-c", UNCHECKED, statement, str(THREADS), MEMORY))
        tables = root / "storage" / "tables" / "raw_behavior" / f"ds={DAY}" / "*.parquet"
        assert _sum(str(tables)) == _sum(str(out)), "landed rows differ from those of the file"
    return taken


def _cpu(*arguments: str | Path) -> float:
    answer = python(*arguments).answer
    assert isinstance(answer, Mapping)
    return float(answer["cpu"])


def _sum(files: str) -> object:
    columns = SHAPES[SHAPE][1]
    sql = f"select count(*), bit_xor(hash({columns})), sum(hash({columns})) from '{files}'"
    return duckdb.execute(sql).fetchall()
