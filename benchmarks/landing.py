"""Lands one large CSV day in a process of its own; prints seconds and the peak of its memory.

    .venv/bin/python benchmarks/landing.py --megabytes 350 --memory-limit 1GB --shape behavior

The peak is that of the resident set, so it holds the interpreter and its libraries too (some
200 MiB). It is compared with 1.5 times the setting ``memory_limit``; a larger one exits with 1.
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

DAY = date(2024, 1, 9)
PARQUET = "pyarrow.parquet"
USER = "user_id,gender,age,reg_time,user_type,kvs_num,kvs_str"
BEHAVIOR = "user_id,behavior,item_id,kvs_num,kvs_str"
SHAPES = {
    "user": ("user", USER),
    "twice": ("user", USER),
    "behavior": ("behavior", BEHAVIOR),
    "short": ("behavior", BEHAVIOR),
    "rejects": ("behavior", BEHAVIOR),
    "population": ("population", "user_id,item_id,phone,name,city,offer"),
}
"""By shape: landing table and header. twice: each key two times; rejects: no row is good."""


def write_day(root: Path, shape: str, megabytes: float) -> int:
    """Write one CSV of about so many megabytes; returns its rows."""
    table, head = SHAPES[shape]
    folder = root / table / ("big" if table == "population" else f"ds={DAY:%Y%m%d}")
    folder.mkdir(parents=True)
    rows, size = 0, 0
    with (folder / "part-0.csv").open("w", encoding="utf-8") as handle:
        handle.write(head + "\n")
        while size < megabytes * 1e6:
            block = "".join(_line(shape, number) for number in range(rows, rows + 20_000))
            handle.write(block)
            rows, size = rows + 20_000, size + len(block)
    return rows


def _line(shape: str, number: int) -> str:
    user = f"user-{number * 7919 % 100_000_007:09}"
    if shape == "population":
        return f"{user},item-{number % 997},138{number % 10**8:08},n{number % 9973},Hangzhou,x\n"
    if shape == "short":
        return f"{number % 5_000_011},b,\\N,\\N,\\N\n"
    if shape == "rejects":
        return f"{user},buy,item-{number % 50_021},hh:x hh:y,store\n"
    if shape in ("user", "twice"):
        user = f"user-{number // 2:09}" if shape == "twice" else user
        head = f"{user},{number % 2 + 1},{number % 90},20200101,vip"
        return f"{head},ltv:{number % 997},city:c{number % 331}\n"
    numbers = f"hh{number % 24:02}:1 amount:{number % 997}.5"
    return f"{user},buy,item-{number % 50_021},{numbers},store:s{number % 331}\n"


def land(root: Path, shape: str, limit: str, threads: int) -> None:
    """Land the day in this process and print what it took, without imports, as JSON."""
    for name in ("deltalake", "duckdb", "numpy", "phonenumbers", "pyarrow.compute", PARQUET):
        importlib.import_module(name)
    from usergrowth_dagster.data.storage import Storage
    from usergrowth_dagster.settings import load_settings
    from usergrowth_dagster.warehouse.landing import land_days
    from usergrowth_dagster.warehouse.population import land_population
    from usergrowth_dagster.warehouse.tables import Warehouse

    settings = load_settings(
        root / "home", memory_limit=limit, threads=threads, max_reject_share=1.0
    )
    landing, warehouse = Storage(str(root)), Warehouse(Storage(str(root / "storage")))
    started, used = time.monotonic(), time.process_time()
    table = SHAPES[shape][0]
    if table == "population":
        rows = land_population(settings, landing, warehouse, "big", DAY).rows_in
    else:
        rows = land_days(settings, landing, warehouse, table, [DAY])[0].rows_in
    # not ru_maxrss: a child that was spawned keeps the peak of its parent in it
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    seconds = round(time.monotonic() - started, 1)
    cpu = round(time.process_time() - used, 3)
    print(json.dumps({"rows": rows, "seconds": seconds, "cpu": cpu, "peak_bytes": peak}))


def measure(
    shape: str, megabytes: float, limit: str, threads: int, timeout: float
) -> dict[str, float]:
    """Write a day, land it in a process of its own, and return rows, seconds and peak_bytes.

    Raises:
        TimeoutExpired: the landing did not end in time.
    """
    with tempfile.TemporaryDirectory(prefix="usergrowth-landing-") as folder:
        rows = write_day(Path(folder), shape, megabytes)
        arguments = ["--land", folder, "--shape", shape, "--memory-limit", limit]
        done = subprocess.run(
            [sys.executable, __file__, *arguments, "--threads", str(threads)],
            check=True,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        found: dict[str, float] = json.loads(done.stdout)
        assert found["rows"] == rows, f"{found['rows']} of {rows} rows landed"
        return found


def main() -> None:
    """Run one measurement, or (``--land``) its inner part."""
    import duckdb

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=350)
    parser.add_argument("--memory-limit", default="1GB")
    parser.add_argument("--shape", choices=list(SHAPES), default="behavior")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=1800)
    parser.add_argument("--land", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.land:
        land(given.land, given.shape, given.memory_limit, given.threads)
        return
    found = measure(given.shape, given.megabytes, given.memory_limit, given.threads, given.timeout)
    connection = duckdb.connect(config={"memory_limit": given.memory_limit})
    allowed = 1.5 * float(
        _bytes(connection.sql("select current_setting('memory_limit')").fetchall()[0][0])
    )
    print(
        f"{given.shape}: {found['rows']:,.0f} rows in {found['seconds']} s, peak "
        f"{found['peak_bytes'] / 2**20:,.0f} MiB, allowed {allowed / 2**20:,.0f} MiB"
    )
    sys.exit(found["peak_bytes"] > allowed)


def _bytes(text: str) -> float:
    number, unit = text.split()
    return float(number) * 1024.0 ** ["bytes", "KiB", "MiB", "GiB", "TiB"].index(unit)


if __name__ == "__main__":
    main()
