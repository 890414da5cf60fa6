"""Commands about past decisions: replay, what-if."""

from typing import Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Page

app = typer.Typer()


@app.command()
def replay(
    task: Annotated[str | None, typer.Argument(help="The task.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every task with a decision.")] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Rebuild a decision from its provenance; fail if the result differs."""
    from usergrowth_dagster.errors import UserError
    from usergrowth_dagster.explain.replay import replay_tasks
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project

    if every == (task is not None):
        raise UserError("replay: name a task, or give --all", code="command.invalid")
    page = Page(as_json)
    replayed = []
    for one in replay_tasks(Project(open_home(home)), task):
        replayed.append(one)
        if task is not None and one.checks:
            checks = [(check.part, check.state, check.detail) for check in one.checks]
            page.table("", ("made from", "now", ""), checks)
        if one.state == "equal":
            page.say(f"{one.sentence}.")
    page.document(replayed)
    if not replayed:
        page.say("nothing has been decided yet")
    page.finish([one.sentence for one in replayed if one.state != "equal"])


@app.command()
def what_if(
    task: Annotated[str, typer.Argument(help="The task.")],
    threshold: Annotated[float | None, typer.Option(help="Text people who score above it.")] = None,
    top_n: Annotated[int | None, typer.Option(help="Text this many of the best.")] = None,
    budget: Annotated[float | None, typer.Option(help="Spend this much on the best.")] = None,
    money: Annotated[
        bool, typer.Option("--money", help="Text people whose uplift is worth the cost.")
    ] = False,
    by: Annotated[str, typer.Option(help="Rank by score or uplift.")] = "score",
    value: Annotated[
        float | None,
        typer.Option(
            help="Worth of a return, for --money and for profit; default: the campaign's. Where "
            "the campaign names an amount, profit is calculated from that in any case."
        ),
    ] = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Estimate what another policy would have earned; without options, the usual policies."""
    from usergrowth_dagster.cli.pages.what_if import show_what_if
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.measure.policies import Question
    from usergrowth_dagster.measure.what_if import what_if as estimate
    from usergrowth_dagster.project import Project

    question = Question(threshold, top_n, budget, money, by, value)
    estimated = estimate(Project(open_home(home)), task, question)
    page = Page(as_json)
    page.document(estimated.answers)
    show_what_if(estimated, page)
    page.finish()
