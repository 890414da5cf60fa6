"""Commands about users who take to items with an attribute: check, run."""

from pathlib import Path
from typing import Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Page

app = typer.Typer()
group = typer.Typer(help="Segments of users who take to items with an attribute.")
app.add_typer(group, name="affinity")

Folder = Annotated[
    Path,
    typer.Argument(
        help="Folder with interactions.csv, items.csv, endpoints.csv and job_config.json."
    ),
]
JobFile = Annotated[
    Path | None, typer.Option("--job", help="Job file; default: job_config.json of the folder.")
]


@group.command()
def check(folder: Folder, job: JobFile = None, as_json: Json = False, home: Home = None) -> None:
    """Read the files of a job and find the items of its expressions; nothing is trained."""
    from usergrowth_dagster.settings import load_settings
    from usergrowth_dagster.views.affinity import look_at_job

    page = Page(as_json)
    look = look_at_job(folder, load_settings(home), job)
    page.table(
        "files", ("file", "rows", "taken"), [(one.file, one.rows, one.taken) for one in look.files]
    )
    page.table(
        "segments",
        ("expression", "items", "users at most", "least score"),
        [(one.expression, one.items, one.num_results, one.min_score) for one in look.segments],
    )
    for sentence in look.odd:
        page.say(f"{sentence}.")
    page.document(look)
    page.finish()


@group.command()
def run(
    folder: Folder,
    job: JobFile = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Folder of the results; default: affinity/<folder> at home."),
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="Users of a segment at most; default: the job's.")
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Least score of a user; default: the job's."),
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(help="URL that gets a JSON POST; default: the setting affinity_webhook."),
    ] = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Train, cut and export the segments of a job, and print how good they are."""
    from usergrowth_dagster.affinity.run import run_job
    from usergrowth_dagster.cli.pages.affinity import show_run
    from usergrowth_dagster.settings import load_settings

    settings = load_settings(home)
    page = Page(as_json)
    done = run_job(
        folder,
        output or settings.home / "affinity" / folder.absolute().name,
        settings,
        job=job,
        top=top,
        min_score=min_score,
        webhook=webhook or settings.affinity_webhook,
    )
    show_run(page, done)
    page.finish([done.failure] if done.failure else [])
