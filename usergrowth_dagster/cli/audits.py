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
    from usergrowth_dagster.commands.replay import replay as run

    page = Page(as_json)
    page.finish(run(home, task, every=every, page=page))


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
    from usergrowth_dagster.commands.what_if import what_if as run
    from usergrowth_dagster.measure.policies import Question

    page = Page(as_json)
    run(home, task, Question(threshold, top_n, budget, money, by, value), page)
    page.finish()
