"""Commands about users who take to items with an attribute: check, run, train, segment, export."""

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
Results = Annotated[
    Path | None,
    typer.Option("--output", help="Folder of the results; default: affinity/<folder> at home."),
]
Top = Annotated[
    int | None, typer.Option(min=1, help="Users of a segment at most; default: the job's.")
]
MinScore = Annotated[
    float | None, typer.Option(min=0, max=1, help="Least score of a user; default: the job's.")
]
Webhook = Annotated[
    str | None,
    typer.Option(help="URL that gets a JSON POST; default: the setting affinity_webhook."),
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
    output: Results = None,
    top: Top = None,
    min_score: MinScore = None,
    webhook: Webhook = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Train, cut and export the segments of a job, and print how good they are."""
    from usergrowth_dagster.affinity.run import open_job, run_job
    from usergrowth_dagster.cli.pages.affinity import show_run
    from usergrowth_dagster.settings import load_settings

    settings = load_settings(home)
    page = Page(as_json)
    opened = open_job(folder, settings, output=output, job=job, top=top, min_score=min_score)
    done = run_job(opened, webhook or settings.affinity_webhook)
    show_run(page, done)
    page.finish([done.failure] if done.failure else [])


@group.command()
def train(
    folder: Folder,
    job: JobFile = None,
    output: Results = None,
    top: Top = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Score every user for each expression of a job, and print how good the orders are."""
    from usergrowth_dagster.affinity.run import open_job, train_job
    from usergrowth_dagster.cli.pages.affinity import show_training
    from usergrowth_dagster.settings import load_settings

    page = Page(as_json)
    opened = open_job(folder, load_settings(home), output=output, job=job, top=top)
    done = train_job(opened)
    show_training(page, done)
    page.say(f"The scores are in {opened.output}; `usergrowth affinity segment` cuts them.")
    page.document(done)
    page.finish()


@group.command()
def segment(
    folder: Folder,
    job: JobFile = None,
    output: Results = None,
    top: Top = None,
    min_score: MinScore = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Cut the segments of a job from the scores of its newest training."""
    from usergrowth_dagster.affinity.run import open_job, segment_job
    from usergrowth_dagster.cli.pages.affinity import show_cuts
    from usergrowth_dagster.settings import load_settings

    page = Page(as_json)
    settings = load_settings(home)
    opened = open_job(folder, settings, output=output, job=job, top=top, min_score=min_score)
    cuts = segment_job(opened)
    show_cuts(page, cuts)
    page.say(f"The segments are in {opened.output}; `usergrowth affinity export` writes the files.")
    page.document({"cuts": cuts, "output": opened.output})
    page.finish()


@group.command()
def export(
    folder: Folder,
    job: JobFile = None,
    output: Results = None,
    webhook: Webhook = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Write the files of endpoints of a job's segments, and announce them."""
    from usergrowth_dagster.affinity.run import export_job, open_job
    from usergrowth_dagster.cli.pages.affinity import show_export
    from usergrowth_dagster.settings import load_settings

    settings = load_settings(home)
    page = Page(as_json)
    opened = open_job(folder, settings, output=output, job=job)
    done = export_job(opened, webhook or settings.affinity_webhook)
    show_export(page, opened.output, done.export, done.announced)
    page.document({**vars(done), "output": opened.output})
    page.finish([done.failure] if done.failure else [])
