"""The example data sets of the demo: their landing files, dates, campaigns and settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

from usergrowth_dagster.control.campaign_schema import FILE_NAME, write_schema
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.problems.churn import Churn
from usergrowth_dagster.project import Project
from usergrowth_dagster.recommend.definition import FILE_NAME as RECOMMEND_FILE

SYNTHETIC_DAYS = 200
SYNTHETIC_START = date(2017, 1, 2)


@dataclass(frozen=True)
class Example:
    """One example: the execution date, the home's settings, and campaign files by name.

    ``home_files`` are further files of the home by path, such as segments.
    """

    name: str
    execution_date: date
    first_day: date
    settings: Mapping[str, Any]
    campaigns: Mapping[str, str]
    users: int = 0
    home_files: Mapping[str, str] = field(default_factory=dict)

    def write(self, project: Project) -> dict[str, int]:
        """Write its landing files and populations; rows by table."""
        if self.name == "synthetic":
            return self._write_synthetic(project)
        from usergrowth_dagster.examples.worlds import completejourney

        rows = completejourney.write_landing(project.landing, progress=project.progress)
        for task in ("december", "december-care"):
            completejourney.write_population(project.landing, task, self.execution_date, 23)
        return rows

    def _write_synthetic(self, project: Project) -> dict[str, int]:
        from usergrowth_dagster.examples.worlds import synthetic

        world = synthetic.SyntheticWorld(
            users=self.users,
            days=SYNTHETIC_DAYS,
            start=SYNTHETIC_START,
            seed=project.settings.seed,
        )
        rows = synthetic.write_landing(world, project.landing, progress=project.progress)
        for task in ("comeback", "care"):
            synthetic.write_population(world, project.landing, task, self.execution_date)
        return rows


def example(dataset: str, users: int) -> Example:
    """An example by name.

    Raises:
        UserError: there is none of that name.
    """
    if dataset == "completejourney":
        return _complete_journey()
    if dataset == "synthetic":
        return _synthetic(users)
    raise UserError(
        f"--dataset {dataset!r}: choose completejourney or synthetic", code="command.invalid"
    )


def _complete_journey() -> Example:
    folder = files("usergrowth_dagster.examples") / "campaigns"
    names = ("december-offer.yaml", "december-care.yaml", "upload-offer.yaml")
    day = date(2017, 12, 28)
    return Example(
        "completejourney",
        day,
        date(2016, 11, 1),
        {"today": day.isoformat(), "start_date": "2016-11-01", "fictional_numbers": True},
        {name: (folder / name).read_text(encoding="utf-8") for name in names},
    )


def _synthetic(users: int) -> Example:
    day = SYNTHETIC_START + timedelta(days=SYNTHETIC_DAYS - 1)
    first = SYNTHETIC_START - timedelta(days=7)  # the first snapshots lie before the first event
    return Example(
        "synthetic",
        day,
        first,
        {
            "today": day.isoformat(),
            "start_date": first.isoformat(),
            "fictional_numbers": True,
            "simulated_people": True,  # their later days answer the texts of the file gateway
        },
        {
            "comeback.yaml": _CAMPAIGN.format(
                name="comeback",
                kind="winback, return_days: 28",
                day=day,
                selection="threshold: 0.3",
            ),
            "care.yaml": _CAMPAIGN.format(
                name="care",
                kind=Churn.name,
                day=day,
                selection=f"top_n: {max(1, users // 10)}",
            ),
            "items.yaml": _ITEMS_CAMPAIGN.format(day=day, top_n=max(1, users // 20)),
        },
        users,
        {"segments/lively.yml": _LIVELY, RECOMMEND_FILE: _RECOMMEND},
    )


TINY_USERS, TINY_DAYS = 300, 120
TINY_DAY = SYNTHETIC_START + timedelta(days=TINY_DAYS - 1)
TINY_SETTINGS = {
    "today": TINY_DAY.isoformat(),
    "start_date": (SYNTHETIC_START - timedelta(days=7)).isoformat(),
}
"""Settings of a home with the tiny example: its clock stands on the example's execution date."""


def write_tiny_example(home: Path, project: Project) -> Path:
    """Write a tiny synthetic landing folder and a commented campaign file; returns the file.

    Raises:
        UserError: landing files or the campaign file are there already; nothing is written.
    """
    from usergrowth_dagster.examples.worlds import synthetic

    path = home / "campaigns" / "example.yaml"
    if path.exists():
        raise UserError(
            f"{path}: is there already; --example goes with a new home", code="home.exists"
        )
    for folder in ("user", "item", "behavior", "operation", "population"):
        if project.landing.files(folder, deep=True):
            raise UserError(
                f"{project.landing.root}/{folder}: holds files already; --example goes with a new "
                "home",
                code="home.exists",
            )
    world = synthetic.SyntheticWorld(
        users=TINY_USERS, days=TINY_DAYS, start=SYNTHETIC_START, items=60
    )
    synthetic.write_landing(world, project.landing)
    synthetic.write_population(world, project.landing, "example", TINY_DAY)
    source = files("usergrowth_dagster.examples") / "campaigns" / "example.yaml"
    path.parent.mkdir(exist_ok=True)
    write_schema(path.parent / FILE_NAME)
    path.write_text(source.read_text("utf-8").format(day=TINY_DAY), encoding="utf-8")
    return path


_CAMPAIGN = """\
# yaml-language-server: $schema=campaign.schema.json
name: {name}
algorithm: {{kind: {kind}}}
training: {{window_days: 170}}
population: population/{name}
execution_date: {day}
selection: {{{selection}}}
holdout: {{share: 0.1}}
signature: {{name: Example, description: Demonstration only}}
template:
  name: {name}
  content: We miss you! Your gift waits in the app. Reply R to opt out 拒收请回复R
  type: promotion
schedule: {{name: {name}}}
"""

_ITEMS_CAMPAIGN = """\
# yaml-language-server: $schema=campaign.schema.json
# People of a segment get the item that is recommended to them, so there is no upload.
name: items
algorithm: churn
training: {{window_days: 170}}
execution_date: {day}
selection: {{segment: lively, top_n: {top_n}}}
holdout: {{share: 0.1}}
signature: {{name: Example, description: Demonstration only}}
template:
  name: items
  content: Others like you take ${{item}} next. Reply R to opt out 拒收请回复R
  type: promotion
schedule: {{name: items}}
"""
_LIVELY = "refresh: daily\nwhere: {feature: {name: events_7d, cmp: gt, value: 3}}\n"
_RECOMMEND = """\
# What of the behavior counts for recommendations, and how many items of a category a list may have
behaviors: [buy]
category: category
lookback_days: 90
top: 5
per_category: 2
"""
