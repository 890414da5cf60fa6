"""Builds facts, features and label of some dates in a home; prints the seconds that they took."""

import argparse
import json
import time
from datetime import date, timedelta
from pathlib import Path

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.build import Builder
from usergrowth_dagster.warehouse.tables import Warehouse

TARGETS = ("user_day", "user_item_day", "item_category")


def main() -> None:
    """Build what is not there, and say how long it took without the imports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--dates", type=date.fromisoformat, nargs="*", default=[])
    parser.add_argument("--labels", type=date.fromisoformat, nargs="*", default=[])
    parser.add_argument("--models", nargs="*", default=["user_features"])
    given = parser.parse_args()
    settings = load_settings(given.home)
    warehouse = Warehouse(Storage(settings.storage_root))
    started = time.perf_counter()
    builder = Builder(settings, warehouse)
    facts = {day - timedelta(days=1) for day in given.dates}
    builder.build_with_inputs(TARGETS, facts)
    builds = builder.build_with_inputs(given.models, given.dates)
    if given.labels:
        builder.build_with_inputs(["churn_label"], given.labels)
    seconds = time.perf_counter() - started
    rows = sum(build.rows for build in builds.values())
    print(json.dumps({"seconds": seconds, "rows": rows}))


if __name__ == "__main__":
    main()
