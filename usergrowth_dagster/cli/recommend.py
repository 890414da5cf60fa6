"""Commands about which items a user takes to next."""

from pathlib import Path
from typing import Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Page, day_of, say

app = typer.Typer()
group = typer.Typer(help="Items that a user takes to next.")
app.add_typer(group, name="recommend")


@group.command()
def evaluate(
    file: Annotated[
        Path,
        typer.Argument(
            help="A line is a user and then its items, the oldest first; categories are read from "
            "<file>_item2attributes.json beside it."
        ),
    ],
    users: Annotated[
        int | None, typer.Option(min=1, help="Ask about so many users, drawn; default: all.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 1,
    as_json: Json = False,
) -> None:
    """Leave out each user's newest item, and print how often each route has it among its first."""
    from usergrowth_dagster.cli.pages.recommend import show_evaluation
    from usergrowth_dagster.recommend.leave_one_out import leave_one_out
    from usergrowth_dagster.recommend.sequence_file import read_sequences

    page = Page(as_json)
    sequences = read_sequences(file)
    show_evaluation(page, sequences, leave_one_out(sequences.history, seed=seed, most=users))
    page.finish()


Day = Annotated[str, typer.Option("--date", help="Execution date; default: today.")]
Out = Annotated[Path, typer.Option("--output", "-o", help="File to write; it must not be there.")]


@group.command()
def run(day: Day = "", as_json: Json = False, home: Home = None) -> None:
    """Recommend items to every user, as recommend.yml says, into the table recommendations."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.recommend.nightly import recommend_day

    page = Page(as_json)
    project = Project(open_home(home))
    done = recommend_day(project, day_of(day) if day else project.settings.current_date())
    tried = [(name, round(ndcg, 4)) for name, ndcg in done.tried.items()]
    page.table("NDCG@10 on the last days", ("order", "NDCG@10"), tried)
    state = "stood already" if done.unchanged else "were written"
    page.say(f"{done.rows:,} rows {state} for {done.day}, in the order {done.order}.")
    page.document(done)
    page.finish()


@group.command()
def show(user: str, day: Day = "", as_json: Json = False, home: Home = None) -> None:
    """Show the list of one user, and the routes that recalled each item."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.recommend import list_of

    page = Page(as_json)
    project = Project(open_home(home))
    when = day_of(day) if day else project.settings.current_date()
    shown = list_of(project, when, user)
    page.table(
        f"items on {when}",
        ("rank", "item", "title", "score", "routes"),
        [(one.rank, one.item_id, one.title, round(one.score, 4), one.routes) for one in shown.rows],
    )
    if shown.rows and not shown.known:
        page.say("Nothing is known of the user: the list holds the popular items.")
    page.finish()


@group.command()
def export(
    output: Out,
    day: Day = "",
    n: Annotated[int, typer.Option(min=1, help="Items of a user at most.")] = 20,
    home: Home = None,
) -> None:
    """Write every user's items into a file, an object a line, as Amazon Personalize does."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.recommend.files import write_batch

    project = Project(open_home(home))
    when = day_of(day) if day else project.settings.current_date()
    done = write_batch(project, when, output, n)
    say(f"Wrote {done.path} with the items of {done.users:,} users.")


@group.command()
def fill(
    file: Annotated[Path, typer.Argument(help="CSV with a column user_id, such as a population.")],
    output: Out,
    day: Day = "",
    n: Annotated[int, typer.Option(min=1, max=10, help="Columns to add: item, item_2, ...")] = 1,
    home: Home = None,
) -> None:
    """Add each user's first items to a CSV, so that a text can say ${item}."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.recommend.files import fill_file

    project = Project(open_home(home))
    when = day_of(day) if day else project.settings.current_date()
    done = fill_file(project, when, file, output, n)
    say(
        f"Wrote {done.path} with {done.users:,} users; {done.users - done.known:,} of them have no "
        "list of their own and get the popular items."
    )


@group.command()
def report(
    first: Annotated[str, typer.Option("--from", help="First day of the answers.")],
    last: Annotated[str, typer.Option("--to", help="Last day of the answers.")],
    event: Annotated[str, typer.Option(help="What counts as a click.")] = "click",
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Land the log of the service, and show what users clicked on, by bucket, route and scene."""
    from usergrowth_dagster.cli.pages.recommend import show_clicks
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.recommend.clicks import read_clicks

    page = Page(as_json)
    project = Project(open_home(home))
    show_clicks(page, read_clicks(project, day_of(first), day_of(last), event))
    page.finish()
