"""Commands of campaigns: apply, review, reviews, preview, schema."""

from pathlib import Path
from typing import Annotated, Any

import typer

from usergrowth_dagster.cli.common import Home, Json, Page, day_of, say

app = typer.Typer()


@app.command()
def apply(
    files: Annotated[
        list[Path], typer.Option("--file", "-f", help="Campaign YAML; may be given repeatedly.")
    ],
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Create or update campaigns from their YAML files; the same file twice changes nothing."""
    from usergrowth_dagster.campaigns.files import apply_files
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project

    page = Page(as_json)
    for applied in apply_files(Project(open_home(home)), files, whoami()):
        page.say(f"{applied.file}: {'; '.join(applied.changes)}")
        for notice in applied.notices:
            page.say(f"warning: {notice}")
    page.finish()


@app.command()
def review(
    kind: Annotated[str, typer.Argument(help="signature or template.")],
    name: Annotated[str, typer.Argument(help="Its name.")],
    approve: Annotated[bool, typer.Option("--approve/--reject")] = True,
    reopen: Annotated[
        bool, typer.Option("--reopen", help="Put a rejected one back into review instead.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="The reason, kept in its history.")] = None,
    home: Home = None,
) -> None:
    """Approve or reject a signature or a template; only approved ones are sent."""
    from usergrowth_dagster.campaigns.reviews import reopen_text, review_text
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project

    project = Project(open_home(home))
    if reopen:
        status = reopen_text(project, kind, name, reason=reason, actor=whoami())
    else:
        status = review_text(project, kind, name, approve=approve, reason=reason, actor=whoami())
    say(f"{kind} {name!r} is {status.name.lower()}")


@app.command()
def reviews(
    name: Annotated[str | None, typer.Argument(help="Show the history of this one.")] = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show the review status of signatures and templates, or the history of one of them."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.campaigns import read_review_history, read_reviews

    settings = open_home(home)
    store = Project(settings).store
    page = Page(as_json)
    if name is None:
        reviews = [(one.kind, one.name, one.status, one.reason) for one in read_reviews(store)]
        page.table("Reviews", ("kind", "name", "status", "reason"), reviews)
    else:
        events = [
            (one.time, one.kind, one.who, one.source, one.target, one.note)
            for one in read_review_history(store, settings, name)
        ]
        page.table(f"History of {name}", ("time", "kind", "who", "from", "to", "note"), events)
    page.finish()


@app.command()
def preview(
    campaign: Annotated[str, typer.Argument(help="The campaign's name.")],
    date: Annotated[
        str | None, typer.Option(help="Execution date; default: the campaign's newest.")
    ] = None,
    samples: Annotated[int, typer.Option(min=0, max=100, help="Messages to show.")] = 5,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show what a campaign would send, to how many, when and for how much; changes nothing."""
    from usergrowth_dagster.cli.pages.preview import preview_document, show_preview
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.preview import read_previews

    day = day_of(date) if date else None
    page = Page(as_json)
    documents: list[dict[str, Any]] = []
    problems: list[str] = []
    for view in read_previews(Project(open_home(home)), campaign, day, samples):
        show_preview(view, page)
        documents.append(preview_document(view))
        problems += view.problems
    page.document(documents)
    page.finish(problems)


@app.command()
def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default standard output.")
    ] = None,
) -> None:
    """Write the JSON schema of the campaign file, so that editors complete and check its keys."""
    from usergrowth_dagster.control.campaign_schema import schema_text, write_schema

    if output is None:
        typer.echo(schema_text().encode(), nl=False)
        return
    write_schema(output)
    say(f"Wrote {output}.")
