"""The command that ranks users by their interest in categories of items."""

from typing import Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Page, day_of

app = typer.Typer()


@app.command()
def interest(
    day: Annotated[str, typer.Option("--date", help="Execution date; default: today.")] = "",
    category: Annotated[str | None, typer.Option(help="Only this category.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Users of each category that are shown.")] = 10,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Rank users by their interest in each category, as interest.yml says, and show the first."""
    from usergrowth_dagster.affinity.interest import rank_interest
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.interest import top_interest

    page = Page(as_json)
    project = Project(open_home(home))
    done = rank_interest(project, day_of(day) if day else project.settings.current_date())
    rows = top_interest(project, done.day, top=top, category=category)
    page.table(
        f"interest on {done.day}",
        ("category", "rank", "user", "interest", "time", "amount", "terms"),
        [
            (
                *(one.category, one.rank, one.user_id, round(one.interest, 6)),
                *(round(one.time_score, 6), round(one.amount_score, 6), round(one.term_score, 6)),
            )
            for one in rows
        ],
    )
    page.say(f"{done.rows:,} rows {'stood already' if done.unchanged else 'were written'}.")
    page.document({"ranked": done, "rows": rows})
    page.finish()
