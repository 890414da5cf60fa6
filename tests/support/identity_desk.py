"""A home whose landed identity rows the tests write themselves."""

import csv
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.identity.run import Identified, identify, land_identity
from usergrowth_dagster.identity.tables import CONFLICTS, HISTORY, ONE_ID
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import open_engine

DAY = date(2024, 3, 4)
HEADER = ("user_id", "id_type", "id_value", "source", "time")

Link = tuple[str, str, str]
"""A user, a type and a value."""


def phone(number: int) -> str:
    """A fictional number."""
    return f"+999{number:010}"


class IdentityDesk:
    """A home whose business clock stands on :data:`DAY`."""

    def __init__(self, home: Path) -> None:
        make_home(home, {"start_date": "2024-01-01", "today": DAY.isoformat(), "timezone": "UTC"})
        self.home = home
        self.project = Project.open(home)

    def land(
        self, links: Sequence[Sequence[str]], day: date, file: str = "part.csv", source: str = "crm"
    ) -> None:
        """Write landing rows of a day; a link of three values has the source and no time."""
        folder = self.home / f"landing/identity/ds={day:%Y%m%d}"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / file).open("w", encoding="utf-8", newline="") as handle:
            lines = csv.writer(handle, lineterminator="\n")
            lines.writerow(HEADER)
            lines.writerows([*one, source, r"\N"][:5] if len(one) == 3 else one for one in links)

    def types(self, text: str) -> None:
        """Write identity.yml."""
        (self.home / "identity.yml").write_text(text, encoding="utf-8")

    def run(self, day: date = DAY) -> Identified:
        """Land what is there before a date, and make its persons."""
        self.project = Project.open(self.home)
        land_identity(self.project, day)
        return identify(self.project, day)

    def rows(self, table: str, day: date | None = DAY) -> list[dict[str, Any]]:
        """Rows of a table on a date, or of all dates."""
        found = self.project.warehouse.files(table, first=day, last=day)
        files = [path for paths in found.values() for path in paths]
        if not files:
            return []
        with open_engine(self.project.settings) as engine:
            listed = ", ".join(f"'{path}'" for path in files)
            sql = f"select * from read_parquet([{listed}], hive_partitioning=true) order by all"
            return list(engine.arrow(sql).to_pylist())

    def one_ids(self, day: date = DAY) -> dict[str, str]:
        """The one_id of each user."""
        mine = [one for one in self.rows(ONE_ID, day) if one["id_type"] == "user_id"]
        return {one["id_value"]: one["one_id"] for one in mine}

    def persons(self, day: date = DAY) -> set[frozenset[str]]:
        """The users of each person."""
        by_person: dict[str, set[str]] = {}
        for user, one_id in self.one_ids(day).items():
            by_person.setdefault(one_id, set()).add(user)
        return {frozenset(users) for users in by_person.values()}

    def conflicts(self, day: date = DAY) -> list[dict[str, Any]]:
        """The links that join nobody."""
        return self.rows(CONFLICTS, day)

    def history(self, day: date = DAY) -> list[dict[str, Any]]:
        """What became of persons on a date."""
        return self.rows(HISTORY, day)


def before(days: int) -> date:
    """So many days before :data:`DAY`."""
    return DAY - timedelta(days=days)
