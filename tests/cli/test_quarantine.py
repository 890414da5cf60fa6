"""The rejected rows of landing files, as the command line shows them."""

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from chain_world import write_people

from usergrowth_dagster.cli.landing import show_rejects
from usergrowth_dagster.documents import document
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.views.quarantine import read_quarantine
from usergrowth_dagster.warehouse.landing import land_days
from usergrowth_dagster.warehouse.population import land_population

DAY = date(2024, 1, 9)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two rejected users and a rejected person of an upload."""
    settings = make_home(
        tmp_path_factory.mktemp("q") / "home", {"start_date": "2024-01-01", "max_reject_share": 1.0}
    )
    project = Project(settings)
    folder = settings.home / "landing" / "user" / "ds=20240109"
    folder.mkdir()
    (folder / "a.csv").write_text(
        "user_id,gender,age,reg_time,user_type,kvs_num,kvs_str\n"
        "u1,1,30,,,,\nu2,F,200,,,,\nu3,1,200,,,,\n"
    )
    land_days(settings, project.landing, project.warehouse, "user", [DAY])
    write_people(settings.home, "care", ["user_id,item_id,phone", ",i1,+447700900161"])
    land_population(settings, project.landing, project.warehouse, "care", DAY)
    return settings.home


class Recorder:
    """A page that keeps what it is given."""

    as_json = False

    def __init__(self) -> None:
        self.said: list[str] = []
        self.rows: list[Sequence[Any]] = []
        self.value: Any = None

    def say(self, text: str) -> None:
        self.said.append(text)

    def table(self, _title: str, _header: Sequence[str], lines: Sequence[Sequence[Any]]) -> None:
        self.rows.extend(lines)

    def markdown(self, text: str) -> None:
        self.said.append(text)

    def document(self, value: Any) -> None:
        self.value = value


def recorded(home: Path, **chosen: Any) -> Recorder:
    """What the command shows."""
    page = Recorder()
    everything = {"table": None, "day": None, "rule": None, "limit": 20}
    rejects = read_quarantine(Project(load_settings(home)), **everything | chosen)
    page.document(rejects)
    show_rejects(rejects, page, chosen=bool(chosen.keys() - {"limit"}))
    return page


def shown(home: Path, **chosen: Any) -> tuple[list[str], list[Sequence[Any]]]:
    """Lines and table rows that the command prints."""
    page = recorded(home, **chosen)
    return page.said, page.rows


def test_rejects_are_shown_with_rules_and_values(home: Path) -> None:
    """A person had to read a Parquet file to learn which cell was wrong; phones stay masked."""
    said, rows = shown(home)
    assert rows == [
        (DAY, "population.care", "user_id", "empty", 1),
        (DAY, "user", "age", "age", 1),
        (DAY, "user", "gender", "bigint", 1),
    ]
    assert said[1:] == [
        "population/care/population.csv:2  user_id: empty ''",
        "    ,i*,+************",
        "user/ds=20240109/a.csv:3  gender: bigint 'F'; age: age '200'",
        "    u2,F,200,,,,",
        "user/ds=20240109/a.csv:4  age: age '200'",
        "    u3,1,200,,,,",
    ]


def test_rejects_are_chosen_by_table_date_and_rule(home: Path) -> None:
    """A rule that is not the first one of a row must find the row too."""
    assert [line[:4] for line in shown(home, rule="age")[0][1:]] == ["user", "    "] * 2
    assert shown(home, table="population")[1] == [(DAY, "population.care", "user_id", "empty", 1)]
    assert shown(home, day=date(2024, 1, 8))[0] == ["no rejected rows match"]
    said, _ = shown(home, limit=1)
    assert said[-1].startswith("and 2 more; ")
    printed = json.loads(document(recorded(home, table="user").value))
    assert [row["line"] for row in printed["rows"]] == [3, 4]
    with pytest.raises(UserError, match="--table 'users': choose from user, item"):
        shown(home, table="users")
    with pytest.raises(UserError, match="--rule 'agee': choose from age, "):
        shown(home, rule="agee")
