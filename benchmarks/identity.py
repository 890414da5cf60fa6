"""Makes persons of many links in a process of its own; prints seconds and the peak of its memory.

    .venv/bin/python benchmarks/identity.py --links 10000000 --memory-limit 2GB --shape households

households: two links a user, a phone number that two users share now and then, and a device that
some share. random: users and devices at random, so that most are one component, and member ids that
clash in it. The peak is that of the resident set; above 2,000 MB this exits with 1.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

DAY = date(2024, 1, 9)
MOST_BYTES = 2_000_000_000
SHAPES = {
    # 5 users share 4 devices; every tenth number has two users
    "households": """
        select concat('user-', n // 2) as user_id,
            case n % 2 when 0 then 'phone' else 'device' end as id_type,
            case n % 2 when 0
                then concat('+999', lpad(cast(n // 2 - (n // 2 % 10) // 9 as varchar), 10, '0'))
                else concat('device-', n // 2 * 4 // 5) end as id_value
    """,
    "random": """
        select concat('user-', hash(n, 1) % 5000000) as user_id,
            case n % 100 when 0 then 'member_id' else 'device' end as id_type,
            case n % 100 when 0 then concat('member-', n)
                else concat('device-', hash(n, 2) % 4000000) end as id_value
    """,
}


def write_links(home: Path, links: int, shape: str) -> None:
    """Write the landed rows of the day before, as landing does."""
    from usergrowth_dagster.homes.home import make_home
    from usergrowth_dagster.identity.links import RAW
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.warehouse.engine import open_engine
    from usergrowth_dagster.warehouse.landing import row_stream

    make_home(home, {"start_date": "2024-01-01", "today": DAY.isoformat(), "timezone": "UTC"})
    project = Project.open(home)
    before = date(2024, 1, 8)
    with open_engine(project.settings) as engine:
        sql = (
            f"select *, 'made' as source, cast(null as varchar) as time, date '{before}' as ds "
            f"from ({SHAPES[shape]} from range({links}) as t(n))"
        )
        project.warehouse.replace(RAW, row_stream(engine, sql), days=[before])


def identify_in_this_process(home: Path, limit: str, threads: int) -> None:
    """Make the persons and print what it took as JSON."""
    from usergrowth_dagster.identity.run import identify
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.settings import load_settings

    project = Project(load_settings(home, memory_limit=limit, threads=threads))
    started = time.monotonic()
    made = identify(project, DAY)
    # not ru_maxrss: a child that was spawned keeps the peak of its parent in it
    status = Path("/proc/self/status").read_text()
    print(
        json.dumps(
            {
                "links": made.rows,
                "ids": made.ids,
                "persons": made.persons,
                "refused": made.refused,
                "seconds": round(time.monotonic() - started, 1),
                "peak_bytes": int(status.split("VmHWM:")[1].split()[0]) * 1024,
            }
        )
    )


def main() -> None:
    """Run one measurement, or (``--home``) its inner part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--links", type=int, default=10_000_000)
    parser.add_argument("--memory-limit", default="2GB")
    parser.add_argument("--shape", choices=list(SHAPES), default="households")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.home:
        identify_in_this_process(given.home, given.memory_limit, given.threads)
        return
    with tempfile.TemporaryDirectory(prefix="usergrowth-identity-") as folder:
        home = Path(folder) / "home"
        write_links(home, given.links, given.shape)
        arguments = ["--home", str(home), "--memory-limit", given.memory_limit]
        done = subprocess.run(
            [sys.executable, __file__, *arguments, "--threads", str(given.threads)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    found = json.loads(done.stdout)
    print(
        f"{given.shape}: {found['links']:,} links of {found['ids']:,} ids in {found['seconds']} s, "
        f"{found['persons']:,} persons, {found['refused']:,} links refused, peak "
        f"{found['peak_bytes'] / 1e6:,.0f} MB"
    )
    sys.exit(found["peak_bytes"] > MOST_BYTES)


if __name__ == "__main__":
    main()
