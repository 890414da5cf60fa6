"""The questions that The Complete Journey can answer: a campaign each, beside those of the demo."""

from dataclasses import replace

from usergrowth_dagster.acquisition.definition import FILE_NAME as ACQUISITION_FILE
from usergrowth_dagster.examples.aarrr.campaigns import campaign_text
from usergrowth_dagster.examples.aarrr.category import Category
from usergrowth_dagster.examples.aarrr.department import department_line
from usergrowth_dagster.examples.aarrr.devices import POLICY, snapshot_of
from usergrowth_dagster.examples.aarrr.recommendation import recommendation_line
from usergrowth_dagster.examples.aarrr.table import Line
from usergrowth_dagster.examples.aarrr.trained import trained_line
from usergrowth_dagster.examples.aarrr.wallet import wallet_line
from usergrowth_dagster.examples.datasets import Example
from usergrowth_dagster.examples.demo import Stages, apply_campaigns, decide, write_home_files
from usergrowth_dagster.examples.worlds.completejourney import write_population
from usergrowth_dagster.project import Project
from usergrowth_dagster.recommend.definition import FILE_NAME as RECOMMEND_FILE
from usergrowth_dagster.runs.training import train_models

DATASET, DATA = "completejourney", "The Complete Journey"
VALUE = "value-90"
"""The campaign that texts who is worth most; the others learn, and wait for an upload."""
DEPARTMENT = "DELI"
_HOUSEHOLDS = 1_000
"""Households whose newest item is looked for."""

_SLICES = (
    "{start_date: 2017-05-01, calibrate_from: 2017-08-14, test_from: 2017-10-02, "
    "end_date: 2017-11-27}"
)
"""Of labels of 30 days. The last one closes before the execution date."""
_LONG = "{start_date: 2017-01-02, end_date: 2017-%s, every_days: 14}"
_ASKED = {
    "next-purchase": ("{kind: purchase, behaviors: [buy]}", _SLICES),
    "month-spend": ("{kind: spend, amount: sales_value}", _SLICES),
    "value-30": ("{kind: ltv, amount: sales_value, days: 30}", _SLICES),
    VALUE: ("{kind: ltv, amount: sales_value, days: 90}", _LONG % "09-25"),
    "value-180": ("{kind: ltv, amount: sales_value, days: 180}", _LONG % "06-26"),
}
"""Block ``algorithm`` and block ``training`` by campaign."""
_FILES = {
    ACQUISITION_FILE: POLICY,
    RECOMMEND_FILE: "# What every user takes next\nbehaviors: [buy]\nlookback_days: 90\n",
}
_OF_DEMO = ("december-care", "december-offer")

NO_DRAW = (
    "no household was held out at random from the coupons, so what a text adds cannot be measured"
)
"""Why the effect of a text is not learned from this data set."""


def journey_lines(project: Project, chosen: Example, stages: Stages) -> list[Line]:
    """Ask every question in a home of the demo, and give the lines.

    Raises:
        UserError: a step failed.
    """
    with stages.stage("ask", "Apply a campaign for each further question"):
        write_population(project.landing, VALUE, chosen.execution_date, 23)
        write_home_files(project, asking(chosen))
        apply_campaigns(project, asking(chosen))
    with stages.stage("train all", "Train and evaluate their models"):
        train_models(project.settings, chosen.execution_date)
    with stages.stage("decide all", "Choose households by their lifetime value"):
        decide(chosen.execution_date)
    with stages.stage("snapshot", "Give households fictional devices, and write their snapshot"):
        snapshot_of(project, chosen.execution_date)
    category = Category(chosen.execution_date, "department", DEPARTMENT)
    with stages.stage("department", f"Learn who buys from the department {DEPARTMENT}"):
        department = [make(project, category, DATA) for make in (department_line, wallet_line)]
    with stages.stage("recommend", "Recommend items, and leave out each household's newest one"):
        items = recommendation_line(project, chosen.execution_date, DATA, _HOUSEHOLDS)
    asked = [trained_line(project, name, DATA) for name in (*_OF_DEMO, *_ASKED)]
    effect = Line("retention", "`uplift`: who returns because of a text", DATA, note=NO_DRAW)
    return [*asked, effect, items, *department]


def finish_asking(project: Project, chosen: Example) -> None:
    """Approve the texts of the further questions if an earlier run ended before it did so.

    The demo runs first and decides every task; it would stop at a text that is still in review.
    """
    further = asking(chosen)
    folder = project.settings.home / "campaigns"
    if all((folder / name).exists() for name in further.campaigns):
        apply_campaigns(project, further)


def asking(chosen: Example) -> Example:
    """The example with the campaigns of the further questions."""
    texts = {
        f"{name}.yaml": campaign_text(
            name,
            algorithm,
            training,
            "{top_n: 300}",
            chosen.execution_date if name == VALUE else None,
        )
        for name, (algorithm, training) in _ASKED.items()
    }
    return replace(chosen, campaigns=texts, home_files=_FILES)
