"""Commands about past experiments: list, report."""

from dataclasses import asdict, astuple
from typing import TYPE_CHECKING, Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Page

if TYPE_CHECKING:
    from usergrowth_dagster.views.experiments import ExperimentView

app = typer.Typer()
group = typer.Typer(help="Past randomized experiments: the sources that fill experiment.")
app.add_typer(group, name="experiment")


@group.command(name="list")
def list_all(as_json: Json = False, home: Home = None) -> None:
    """List the past experiments of sources.yml and the days that have landed."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.experiments import list_experiments

    page = Page(as_json)
    lines = list_experiments(Project(open_home(home)))
    if not lines:
        page.say("no source fills experiment; docs/how-to/experiments.md says how to write one")
    page.table(
        "experiments",
        ("experiment", "from", "first day", "last day", "days"),
        [
            (one.name, one.rows_from, one.first or "not landed", one.last or "", one.days)
            for one in lines
        ],
    )
    page.finish()


@group.command()
def report(
    name: Annotated[str, typer.Argument(help="The source of the experiment.")],
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Measure a past experiment, check that its arms were alike, and write its report."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.experiments import view_experiment

    page = Page(as_json)
    view = view_experiment(Project(open_home(home)), name)
    _show(view, page)
    balance = {
        "balanced": view.balanced,
        "sentence": view.balance,
        "differences": [asdict(one) for one in view.differences],
    }
    page.document(view.effect.content | {"page": view.effect.page, "balance": balance})
    page.finish([] if view.balanced else [f"experiment {name}: {view.balance}"])


def _show(view: "ExperimentView", page: Page) -> None:
    effect = view.effect
    page.say(f"{effect.execution_date} {effect.task}: {effect.sentence}\n")
    figures = [astuple(figure) for figure in effect.figures]
    page.table("", ("figure", "value", "interval or remark"), figures)
    page.say(f"balance: {view.balance}")
    page.table(
        "",
        ("feature before", "treated", "held out", "standardized difference"),
        [
            (one.feature, f"{one.treated:.4g}", f"{one.control:.4g}", f"{one.standardized:+.3f}")
            for one in view.differences[:5]
        ],
    )
    page.say(f"{effect.page}\n")
