"""Measures every row of the table in docs/benchmarks.md, each beside its rival.

    make bench                                            # about ten minutes; writes the table
    make bench-full                                       # a million users; for a night
    .venv/bin/python benchmarks/bench.py --size tiny      # seconds; equality only, writes nothing
    .venv/bin/python benchmarks/bench.py --only features  # one module of benchmarks/rows

Each module of ``benchmarks/rows`` has a function ``measure``; a new one is a new row.
"""

import argparse
import importlib
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import get_args

sys.path.insert(0, str(Path(__file__).parent))

import curve_page
from measured import ROOT, Row, Size

ROWS = Path(__file__).parent / "rows"
FULL_ONLY = ("demo", "million")
TABLE = ROOT / "docs" / "benchmarks.md"
RECORD = ROOT / "docs" / "benchmarks.json"
INTRODUCTION = """# Benchmarks

Written by `make bench` and `make bench-full`. Each row compares the product with a rival that ran
in the same command on the same machine. Only ratios are judged; seconds depend on the machine. The
rivals are plain programs in `benchmarks/rivals/`, and their results are checked to be equal. A
target that is not met says why.
"""


def names() -> list[str]:
    """The modules of rows."""
    return sorted(path.stem for path in ROWS.glob("[a-z]*.py"))


def machine() -> str:
    """What it ran on, in a line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB, "
        f"Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    )


def line(row: Row) -> str:
    """A row of the table."""
    times = "" if row.kind == "amount" else "×"
    theirs = "–" if row.theirs is None else f"{row.theirs:,.3g} {row.unit}"
    cells = [
        row.work,
        row.rival,
        f"{row.ours:,.3g} {row.unit}",
        theirs,
        f"{row.figure:,.2f}{times or ' ' + row.unit}",
        row.target,
        "met" if row.met else "**not met**",
        row.note,
    ]
    return "| " + " | ".join(cells) + " |"


def write(measured: dict[str, dict[str, object]]) -> None:
    """Write the table and the record that it is made from."""
    RECORD.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    text = [INTRODUCTION]
    for name, part in sorted(measured.items()):
        if "points" in part:
            text.append(curve_page.section(part) + "\n")
            continue
        rows = [Row(**values) for values in part["rows"]]  # type: ignore[attr-defined]
        head = "| work | rival | ours | rival's | figure | target | | note |\n" + "|---" * 8 + "|"
        text.append(
            f"## {name}\n\n{part['machine']}\n\n{head}\n" + "\n".join(map(line, rows)) + "\n"
        )
    TABLE.write_text("\n".join(text), encoding="utf-8")


def main() -> None:
    """Measure, print, and write unless it is tiny."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=get_args(Size), default="normal")
    parser.add_argument("--only", nargs="*", choices=names(), metavar="MODULE")
    given = parser.parse_args()
    size: Size = given.size
    chosen = given.only or [name for name in names() if size == "full" or name not in FULL_ONLY]
    known = json.loads(RECORD.read_text("utf-8")) if RECORD.exists() else {}
    for name in chosen:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="usergrowth-bench-") as folder:
            rows = list(importlib.import_module(f"rows.{name}").measure(size, Path(folder)))
        for row in rows:
            print(line(row), flush=True)
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
        known[name] = {"machine": machine(), "rows": [asdict(row) for row in rows]}
        if size != "tiny":
            write(known)


if __name__ == "__main__":
    main()
