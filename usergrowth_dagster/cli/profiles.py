"""Commands about groups of people: profile, segments, overlap, funnel, retention, cohorts."""

from typing import Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Page, optional_day

app = typer.Typer()
group = typer.Typer(
    help="What people are like: everyone, rfm:GROUP, aipl:STAGE, segment:NAME or task:TASK."
)
app.add_typer(group, name="profile")

Group = Annotated[
    str, typer.Argument(help="everyone, rfm:GROUP, aipl:STAGE, segment:NAME or task:TASK.")
]
Day = Annotated[str, typer.Option("--date", help="Execution date; default: the newest with tags.")]


@group.command()
def show(
    name: Group,
    against: Annotated[str, typer.Option(help="The base: everyone, or another group.")] = (
        "everyone"
    ),
    step: Annotated[
        list[str] | None, typer.Option(help="A behavior of a funnel on the page; may be repeated.")
    ] = None,
    day: Day = "",
    personal: Annotated[
        bool, typer.Option("--personal", help="Compare personal tags too; never sensitive ones.")
    ] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Compare the tags of a group with those of everyone or of another group; writes a page."""
    from usergrowth_dagster.cli.cells import Count, Share
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.profiles.profile import TELLING
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.profiles import view_profile

    page = Page(as_json)
    project = Project(open_home(home))
    view = view_profile(project, name, against, optional_day(day), step or (), personal=personal)
    made = view.profile
    page.say(f"{name} beside {against} on {view.day}: {made.group:,} of {made.base:,} people.")
    page.say(view.sentence)
    page.table(
        "tags, the most different first",
        ("tag", "Cramers V", "p value", "differs"),
        [(t.key, round(t.cramers_v, 4), round(t.p_value, 4), t.differs) for t in made.tags],
    )
    page.table(
        "values",
        ("tag", "value", "people", "share", "share of base", "TGI", "low", "high", "telling"),
        [
            (
                *(t.key, v.value, Count(v.group), Share(v.group_share), Share(v.base_share)),
                *(round(v.tgi, 1), round(v.low, 1), round(v.high, 1), v.is_telling),
            )
            for t in made.tags[:TELLING]
            for v in t.values
        ],
    )
    for key, reason in made.left_out:
        page.say(f"{key} is not compared: {reason}")
    for key in view.hidden:
        page.say(f"{key} is not compared: its values are not shown on pages")
    for sentence in view.stale:
        page.say(sentence)
    if made.unknown:
        page.say(f"{made.unknown:,} people of the group are not known on the date.")
    page.say(f"{view.page}")
    page.finish()


@group.command()
def segments(day: Day = "", as_json: Json = False, home: Home = None) -> None:
    """Compare every segment with everyone, count overlaps and who came back, and keep all of it."""
    from usergrowth_dagster.cli.pages.profiles import show_segment_profiles
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.profiles import view_segment_profiles

    page = Page(as_json)
    made = view_segment_profiles(Project(open_home(home)), optional_day(day))
    show_segment_profiles(made, page)
    page.finish()


@group.command()
def overlap(
    names: Annotated[list[str], typer.Argument(help="Two to ten groups.")],
    day: Day = "",
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Count how groups overlap; writes a page."""
    from usergrowth_dagster.cli.cells import Count, Share
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.profiles import view_overlap

    page = Page(as_json)
    made, file = view_overlap(Project(open_home(home)), names, optional_day(day))
    page.section("groups", ("group", "people"), [(n, Count(c)) for n, c in made.sizes.items()])
    page.section(
        "people in exactly these groups",
        ("groups", "people"),
        [(" + ".join(one.groups), Count(one.people)) for one in made.intersections],
    )
    page.table(
        "pairs",
        ("one", "other", "both", "of the smaller", "of either"),
        [
            (p.one, p.other, Count(p.both), Share(p.of_smaller), Share(p.jaccard))
            for p in made.pairs
        ],
    )
    page.say(f"{file}")
    page.finish()


@group.command()
def funnel(
    name: Group,
    step: Annotated[list[str], typer.Option(help="A behavior; give each step in order.")],
    days: Annotated[int, typer.Option(min=1, max=1000, help="Days before the date.")] = 90,
    within: Annotated[
        int, typer.Option(min=0, max=1000, help="Days from the first step to the last.")
    ] = 30,
    day: Day = "",
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Count who did some behaviors in order."""
    from usergrowth_dagster.cli.cells import Count, Share
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.profiles import view_funnel

    page = Page(as_json)
    project = Project(open_home(home))
    made = view_funnel(project, name, step, optional_day(day), days=days, within_days=within)
    page.say(f"{made.people:,} people of {name}, from {made.first} to {made.last}.")
    page.table(
        "funnel",
        ("step", "people", "of the group", "of the step before"),
        [(s.behavior, Count(s.people), Share(s.of_all), Share(s.of_before)) for s in made.steps],
    )
    page.finish()


@group.command()
def retention(
    name: Group,
    weeks: Annotated[int, typer.Option(min=2, max=52, help="Weeks before the date.")] = 12,
    day: Day = "",
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show who came back, by the week of their first active day of the window."""
    from usergrowth_dagster.cli.cells import Count, Share
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.profiles import view_retention

    page = Page(as_json)
    cohorts = view_retention(Project(open_home(home)), name, optional_day(day), weeks=weeks)
    page.table(
        "cohorts",
        ("week", "people", *(f"week {n}" for n in range(weeks))),
        [
            (c.week, Count(c.people), *(None if s is None else Share(s) for s in c.shares))
            for c in cohorts
        ],
    )
    page.finish()


@group.command()
def cohorts(
    name: Group,
    by: Annotated[
        str, typer.Option(help="What began a person's week: registration or first_seen.")
    ] = "registration",
    weeks: Annotated[int, typer.Option(min=2, max=52, help="Weeks before the date.")] = 12,
    day: Day = "",
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Count who of each week's new people was active in the weeks since; writes a page."""
    from usergrowth_dagster.cli.cells import Count
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.profiles.cohorts import began_by
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.profiles import view_cohorts

    page = Page(as_json)
    began = began_by(by)
    project = Project(open_home(home))
    made, file = view_cohorts(project, name, began, optional_day(day), weeks=weeks)
    page.table(
        f"people active, by the week of {by.replace('_', ' ')}",
        ("week", "people", *(f"week {n}" for n in range(weeks))),
        [
            (c.week, Count(c.people), *(None if n is None else Count(n) for n in c.active))
            for c in made.cohorts
        ],
    )
    for sentence in made.sentences:
        page.say(sentence)
    page.say(f"{file}")
    page.finish()
