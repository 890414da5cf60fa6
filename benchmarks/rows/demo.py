"""The demo on the public data set, beside an earlier version of the product in the same hour."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from measured import ROOT, Row, Size, run

WHY = (
    "Why not half: the features of 54 dates are half of the training, and half of these are joins "
    "of 270,000 pairs of user and item with five categories each; the fits are a quarter. Tried: "
    "integers in place of texts (a fifth of that join), lists of categories by item (half of it, "
    "but the lists cost as much). Done since: the two questions train at once, in two processes, "
    "which a quarter more of the processors' time leaves at 72 s instead of 85. Not tried: totals "
    "by month, which every late day would have to repair"
)
EARLIER = "USERGROWTH_EARLIER"
"""Environment variable: a checkout of an earlier version with its own .venv."""


def measure(size: Size, work: Path) -> Iterator[Row]:
    """One row: the seconds of all stages.

    Raises:
        AssertionError: the two versions landed other rows.
    """
    earlier = os.environ.get(EARLIER)
    dataset = "synthetic" if size == "tiny" else "completejourney"
    theirs = _summary(Path(earlier), work / "earlier", dataset) if earlier else None
    ours = _summary(ROOT, work / "now", dataset)
    if theirs is not None:
        assert _landed(ours) == _landed(theirs), (ours["rows"], theirs["rows"])
    yield Row(
        f"demo on {dataset}: landed, trained, decided, sent to files, reported",
        f"the version that {EARLIER} names",
        sum(ours["seconds"].values()),
        sum(theirs["seconds"].values()) if theirs else None,
        "≤ ½",
        0.5 if theirs else 0.0,
        "slower" if theirs else "amount",
        note="; ".join(
            f"{stage} {seconds:.0f} s" + (f" ({theirs['seconds'][stage]:.0f})" if theirs else "")
            for stage, seconds in ours["seconds"].items()
        )
        + f". {WHY}",
    )


def _landed(summary: dict[str, dict[str, float]]) -> dict[str, float]:
    """The rows by table, without those of campaigns that one of the versions has not."""
    return {name: rows for name, rows in summary["rows"].items() if name != "population"}


def _summary(checkout: Path, home: Path, dataset: str) -> dict[str, dict[str, float]]:
    """What the demo of a checkout wrote of itself, in a fresh home."""
    python = checkout / ".venv" / "bin" / "python"
    command = [python, "-m", "usergrowth_dagster", "demo", "--dataset", dataset, "--users", "500"]
    run(command, USERGROWTH_HOME=str(home), DAGSTER_HOME=str(home / "dagster"), folder=checkout)
    summary: dict[str, dict[str, float]] = json.loads(
        (home / "demo" / "summary.json").read_text("utf-8")
    )
    return summary
