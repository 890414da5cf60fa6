"""The synthetic example on a disk and in an object store: everything equal, and what each took.

Both run the whole demo, each in a home of its own below a folder. On a disk a demo that stands is
only compared. In the store the tables, the landing and output files and the models' files are all
below one root: of a server of Ceph that runs while this does, or of ``--root``, which has to be
empty, with the endpoint and credentials of the environment. Compared are all landing and output
files, all tables, the models' metrics, the campaigns' records, the plans with their batches, the
ledger, and the texts that went out.
"""

import argparse
import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

from measured import ROOT
from two_homes import (
    every_table,
    files,
    records,
    reports,
    run_demo,
    summaries,
    tables,
    texts,
    was_made,
)

sys.path.insert(0, str(ROOT / "tests"))

from support.radosgw import PROGRAMS, environment, running_cluster

from usergrowth_dagster.data.object_store import open_storage
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings

PLACES = ("storage", "landing", "mlflow_artifacts")
"""Settings that put files into the store."""


def main() -> None:
    """Run both demos, compare, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--root", help="s3://bucket/prefix; without it a server is started")
    given = parser.parse_args()
    if chosen := {variable(name) for name in PLACES} & set(os.environ):
        sys.exit(f"{min(chosen)} is set, so no demo would be on the disk; unset it")
    disk, stored = given.folder / "disk", given.folder / "stored"
    if not was_made(disk):
        run_demo(disk, "disk", given.users)
    with ExitStack() as stack:
        root = given.root or started(stack)
        if open_storage(load_settings(stored), root).files(deep=True):
            sys.exit(f"--root {root}: has files already; name an empty place")
        shutil.rmtree(stored, ignore_errors=True)
        places = {name: f"{root}/{name}" for name in PLACES}
        into = {variable(name): place for name, place in places.items()}
        run_demo(stored, "object store", given.users, **into)
        faults = compare(Project.open(disk), Project(load_settings(stored, **places)))
        faults += left_on_disk(stored)
    print("\n".join(faults) or "equal: files, tables, metrics, reports, plans, ledger and texts")
    sys.exit(1 if faults else 0)


def variable(name: str) -> str:
    """The variable of the environment that gives a setting."""
    return f"USERGROWTH_{name.upper()}"


def started(stack: ExitStack) -> str:
    """A root in a bucket of a server that runs until the stack ends."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        sys.exit(f"{missing[0]} is not installed; install Ceph's radosgw, or name a --root")
    cluster = stack.enter_context(running_cluster())
    os.environ |= environment(cluster.endpoint)
    return f"s3://{cluster.bucket()}/growth"


def compare(disk: Project, stored: Project) -> list[str]:
    """All that differs."""
    return [
        *files(disk, stored),
        *tables(disk, stored, every_table(disk, stored)),
        *summaries(disk, stored),
        *reports(disk, stored),
        *records(disk, stored),
        *texts(disk, stored),
    ]


def left_on_disk(home: Path) -> list[str]:
    """What lies in the home and belongs into the store."""
    names = ("storage", "landing", "mlflow/artifacts")
    return [f"{home / name}: on this machine" for name in names if (home / name).exists()]


if __name__ == "__main__":
    main()
