"""Files of a table that were written, and left it, some days ago."""

import os
import time
from pathlib import Path

from usergrowth_dagster.warehouse.tables import Warehouse


def make_old(warehouse: Warehouse, table: str, *, days: int) -> None:
    """Let everything of a table that is there now be of so many days ago, in its log too."""
    back = time.time() - days * 86_400
    for path in Path(warehouse.uri(table)).rglob("*"):
        if path.suffix == ".json":
            text = path.read_text("utf-8")
            for name in ('"deletionTimestamp":', '"modificationTime":'):
                first, *others = text.split(name)
                stamped = (
                    f"{name}{int(back * 1000)}{part.lstrip('0123456789')}" for part in others
                )
                text = first + "".join(stamped)
            path.write_text(text, "utf-8")
        os.utime(path, (back, back))
