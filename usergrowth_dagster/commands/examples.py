"""The example data sets of the demo: their landing files, dates, campaigns and settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.resources import files
from typing import Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.tasks.project import Project

SYNTHETIC_DAYS = 200
SYNTHETIC_START = date(2017, 1, 2)


@dataclass(frozen=True)
class Example:
    """One example: the execution date, the home's settings, and campaign files by name."""

    name: str
    execution_date: date
    first_day: date
    settings: Mapping[str, Any]
    campaigns: Mapping[str, str]
    users: int = 0

    def write(self, project: Project) -> dict[str, int]:
        """Write its landing files and populations; rows by table."""
        if self.name == "synthetic":
            return self._write_synthetic(project)
        from usergrowth_dagster.data.examples import completejourney

        rows = completejourney.write_landing(project.landing, progress=project.progress)
        for task in ("december", "december-care"):
            completejourney.write_population(project.landing, task, self.execution_date, 23)
        return rows

    def _write_synthetic(self, project: Project) -> dict[str, int]:
        from usergrowth_dagster.data.examples import offers, synthetic

        world = synthetic.SyntheticWorld(
            users=self.users,
            days=SYNTHETIC_DAYS,
            start=SYNTHETIC_START,
            seed=project.settings.seed,
        )
        rows = synthetic.write_landing(world, project.landing, progress=project.progress)
        for task in ("comeback", "care"):
            offers.write_population(world, project.landing, task, self.execution_date)
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
    raise UserError(f"--dataset {dataset!r}: choose completejourney or synthetic")


def _complete_journey() -> Example:
    folder = files("usergrowth_dagster.commands") / "example_campaigns"
    names = ("december-offer.yaml", "december-care.yaml", "upload-offer.yaml")
    day = date(2017, 12, 28)
    return Example(
        "completejourney",
        day,
        date(2016, 11, 1),
        {"today": day.isoformat(), "start_date": "2016-11-01"},
        {name: (folder / name).read_text(encoding="utf-8") for name in names},
    )


def _synthetic(users: int) -> Example:
    day = SYNTHETIC_START + timedelta(days=SYNTHETIC_DAYS - 1)
    first = SYNTHETIC_START - timedelta(days=7)  # the first snapshots lie before the first event
    return Example(
        "synthetic",
        day,
        first,
        {"today": day.isoformat(), "start_date": first.isoformat()},
        {
            "comeback.yaml": _CAMPAIGN.format(
                name="comeback",
                kind="winback, return_days: 28",
                day=day,
                selection="threshold: 0.3",
            ),
            "care.yaml": _CAMPAIGN.format(
                name="care", kind="churn", day=day, selection=f"top_n: {max(1, users // 10)}"
            ),
        },
        users,
    )


_CAMPAIGN = """\
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
