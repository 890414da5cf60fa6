"""Ledgered sends beside a client loop that writes nothing down, on a gateway that answers at once.

The two programs are those of ``benchmarks/dispatch.py``.
"""

from collections.abc import Iterator
from pathlib import Path

from dispatch import compare
from measured import Row, Size

RECIPIENTS: dict[Size, tuple[int, int]] = {
    "tiny": (300, 1),
    "normal": (20_000, 5),
    "full": (200_000, 3),
}
"""Recipients, and how many times the two take turns."""


def measure(size: Size, work: Path) -> Iterator[Row]:
    """One row; both programs must have had every message accepted."""
    recipients, times = RECIPIENTS[size]
    found = compare(work, recipients, 0.0, times)
    yield Row(
        f"{recipients:,} ledgered sends, the gateway answers at once",
        "a client loop that renders and posts, on the same gateway",
        found.ledger,
        found.bare,
        "≥ .6 of its speed",
        0.6,
        "faster",
        note="each program with its imports, which are most of the client loop's time (it imports "
        "the ledger's modules for its text), on one core, SQLite with full synchronization; "
        f"the median of {times}. Each batch of 100 waits for one synchronized commit and changes "
        "each row and its indexes three times (claimed, submitting, answered). SQLite alone takes "
        "longer for two of these changes and the commit than the loop takes to send. Several "
        "batches in a commit would be faster, and a crash would leave all of them in doubt",
    )
