"""Commands about sources: suggest, presets, check, preview, land, schema."""

from typing import Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Output, Page

app = typer.Typer()
group = typer.Typer(help="Data from where it lives: the sources of <home>/sources.yml.")
app.add_typer(group, name="sources")

Name = Annotated[str | None, typer.Argument(help="One source; all without it.")]
Table = Annotated[str | None, typer.Option(help="A table of the database.")]
Query = Annotated[str | None, typer.Option(help="One SELECT instead of a table.")]
PasswordEnv = Annotated[
    str | None, typer.Option(help="Environment variable that holds the database's password.")
]
PasswordFile = Annotated[str | None, typer.Option(help="File that holds the database's password.")]


@group.command()
def suggest(
    files: Annotated[
        str,
        typer.Argument(
            help="A log: a file, a pattern in quotes, a Delta table, or the URL of a database."
        ),
    ],
    table: Table = None,
    query: Query = None,
    password_env: PasswordEnv = None,
    password_file: PasswordFile = None,
    name: Annotated[str, typer.Option(help="Name of the source.")] = "log",
    write: Annotated[bool, typer.Option("--write", help="Write it as the home's file.")] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Look at a log and propose a sources.yml: which column is what, or which preset it is."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.sources import database_keys, suggest, suggest_database

    page = Page(as_json)
    project = Project(open_home(home))
    database = database_keys(files, table, query, password_env, password_file)
    if database is None:
        suggestion, written = suggest(project, files, name, write=write)
    else:
        suggestion, written = suggest_database(project, database, name, write=write)
    page.say(suggestion.text)
    page.table(suggestion.counted, list(suggestion.counts), [list(suggestion.counts.values())])
    if written is not None:
        page.say(f"Wrote {written}. Correct it, then usergrowth sources land.")
    page.document(vars(suggestion))
    page.finish()


@group.command(name="presets")
def list_presets(as_json: Json = False) -> None:
    """List the exports that sources.yml can name as a preset."""
    from usergrowth_dagster.views.sources import known_presets

    page = Page(as_json)
    page.table(
        "presets",
        ("preset", "fills", "export", "file", "documentation"),
        [
            (one.preset, one.table, one.title, one.file, one.documentation[0])
            for one in known_presets()
        ],
    )
    page.finish()


@group.command()
def check(name: Name = None, as_json: Json = False, home: Home = None) -> None:
    """Open every source, check its expressions, and show the columns of its files."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.sources import check_sources

    page = Page(as_json)
    checked = check_sources(Project(open_home(home)), name)
    page.table(
        "sources",
        ("source", "table", "format", "files", "columns"),
        [
            (
                look.source,
                look.table,
                look.format,
                look.files,
                ", ".join(f"{column} {kind}" for column, kind in look.columns.items()),
            )
            for look in checked.looks
        ],
    )
    page.finish(checked.failures)


@group.command()
def preview(
    name: Annotated[str, typer.Argument(help="The source.")],
    rows: Annotated[int, typer.Option(min=1, max=1000, help="Rows that are shown.")] = 10,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show some rows as a source would land them; nothing is written."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.sources import preview_source

    page = Page(as_json)
    names, lines = preview_source(Project(open_home(home)), name, rows)
    page.table("rows", names, lines)
    page.finish()


@group.command()
def land(
    name: Name = None,
    reread: Annotated[
        bool,
        typer.Option(
            "--reread",
            help="Read a database anew; take a table without rows; write days of late rows.",
        ),
    ] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Write the landing files of all days that are over and not up to date."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.sources import land_sources

    page = Page(as_json)
    landed = land_sources(Project(open_home(home)), name, reread=reread)
    page.table(
        "sources",
        ("source", "table", "files", "days landed", "unchanged", "waiting", "rows"),
        [
            (
                one.source,
                one.table,
                one.files,
                len(one.landed),
                one.unchanged,
                len(one.waiting),
                one.rows,
            )
            for one in landed.landings
        ],
    )
    pulls = [(one.source, one.pull) for one in landed.landings if one.pull is not None]
    if pulls:
        page.table(
            "databases",
            ("source", "rows read", "new", "replaced", "rows held", "cursor"),
            [
                (
                    source,
                    pull.rows_read,
                    pull.rows_new,
                    pull.rows_replaced,
                    pull.rows_held,
                    pull.cursor,
                )
                for source, pull in pulls
            ],
        )
    for one in landed.landings:
        for sentence in one.notes():
            page.say(f"{one.source}: {sentence}")
    if any(one.landed for one in landed.landings):
        first = min(one.landed[0] for one in landed.landings if one.landed)
        last = max(one.landed[-1] for one in landed.landings if one.landed)
        page.say(f"next: usergrowth backfill --from {first} --to {last} --only-ingest")
    page.finish(landed.failures)


@group.command()
def schema(output: Output = None) -> None:
    """Write the JSON schema of sources.yml, so that editors complete and check its keys."""
    from usergrowth_dagster.cli.common import write_schema
    from usergrowth_dagster.sources.definition import sources_schema

    write_schema(sources_schema(), output)
