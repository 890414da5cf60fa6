"""A home with the product's tiny example, decided at its date by the commands that it names."""

import shutil
import sys
from datetime import date, timedelta
from pathlib import Path

from measured import Used, run

FIRST, DAY = date(2016, 12, 26), date(2017, 5, 1)
"""First execution date of the example, and the date that it decides."""


def usergrowth(home: Path, *arguments: str | Path) -> Used:
    """Run a command on a home."""
    command = [sys.executable, "-m", "usergrowth_dagster", *arguments, "--home", home]
    return run(command, COLUMNS="200")


def landed_home(home: Path) -> None:
    """Make the home with its days landed and their facts."""
    usergrowth(home, "init", "--example")
    usergrowth(home, "backfill", "--from", f"{FIRST}", "--to", f"{DAY}", "--only-ingest")


def decided_home(home: Path) -> None:
    """Make the home: days landed, a model trained, the date decided and sent to a file."""
    landed_home(home)
    usergrowth(home, "apply", "-f", home / "campaigns" / "example.yaml")
    usergrowth(home, "review", "signature", "Example")
    usergrowth(home, "review", "template", "example text")
    usergrowth(home, "run", "--date", f"{DAY}")


def add_next_day(home: Path) -> date:
    """Let the next morning come: the day's files and a campaign of the new date are there."""
    after = DAY + timedelta(days=1)
    settings = home / "usergrowth.toml"
    settings.write_text(settings.read_text("utf-8").replace(f"{DAY}", f"{after}"), "utf-8")
    for table in ("behavior", "operation"):
        days = sorted((home / "landing" / table).iterdir())
        landed = home / "landing" / table / f"ds={DAY:%Y%m%d}"
        if days and not landed.exists():
            landed.mkdir()
            for file in days[-1].glob("*.csv"):
                (landed / file.name).write_bytes(file.read_bytes())
    shutil.copytree(home / "landing/population/example", home / "landing/population/next")
    campaign = (home / "campaigns" / "example.yaml").read_text("utf-8")
    campaign = campaign.replace("population/example", "population/next")
    changed = campaign.replace("name: example\n", "name: next\n").replace(f"{DAY}", f"{after}")
    path = home / "campaigns" / "next.yaml"
    path.write_text(changed, "utf-8")
    usergrowth(home, "apply", "-f", path)
    return after
