"""Commands about exports: check, list, run, errors, expire, schema."""

from typing import Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Output, Page, day_of

app = typer.Typer()
group = typer.Typer(help="Audiences and scores for other tools: the exports of <home>/exports.yml.")
app.add_typer(group, name="exports")

Name = Annotated[str | None, typer.Argument(help="One export; all without it.")]
Day = Annotated[
    str,
    typer.Option("--date", help="Execution date; default: that of the export's task, else today."),
]


@group.command()
def check(name: Name = None, day: Day = "", as_json: Json = False, home: Home = None) -> None:
    """Work out the rows of every export and try its destination; nothing goes out."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.exports import check_exports

    page = Page(as_json)
    checked = check_exports(Project(open_home(home)), name, day_of(day) if day else None)
    page.table(
        "exports",
        ("export", "what", "to", "date", "rows", "columns"),
        [
            (
                look.export,
                look.what,
                look.destination,
                look.execution_date,
                look.rows,
                ", ".join(f"{column} {kind}" for column, kind in look.columns.items()),
            )
            for look in checked.looks
        ],
    )
    page.finish(checked.failures)


@group.command(name="list")
def list_all(as_json: Json = False, home: Home = None) -> None:
    """List the exports, where they go, and what became of their newest runs."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.exports import list_exports

    page = Page(as_json)
    page.table(
        "exports",
        ("export", "what", "to", "date", "state", "rows", "refused", "ended", "error"),
        [
            (
                one.export,
                one.what,
                one.destination,
                one.execution_date,
                one.state,
                one.rows,
                one.failed,
                one.ended,
                one.error,
            )
            for one in list_exports(Project(open_home(home)))
        ],
    )
    page.finish()


@group.command()
def run(
    name: Name = None,
    day: Day = "",
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Send rows that the destination holds already, or older ones."
        ),
    ] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Bring the rows of a date to their destinations; what they hold already is not sent."""
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.exports import run_exports

    page = Page(as_json)
    ran = run_exports(
        Project(open_home(home)),
        name,
        actor=whoami(),
        day=day_of(day) if day else None,
        task_id=task,
        again=again,
    )
    for one in ran.exported:
        page.say(f"{one.sentence}.")
    page.document({"exports": ran.exported, "failures": ran.failures})
    page.finish(ran.failures)


@group.command()
def errors(
    name: Annotated[str, typer.Argument(help="The export.")],
    day: Annotated[str, typer.Option("--date", help="Run of this date; default: newest.")] = "",
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show the rows that the destination refused in the newest run."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.exports import refused_rows

    page = Page(as_json)
    refused = refused_rows(Project(open_home(home)), name, day_of(day) if day else None)
    if refused is None:
        page.say(f"export {name} has not run")
    else:
        page.table(
            "refused rows",
            ("row", "task", "user", "reason"),
            [(one.row, one.task, one.user, one.reason) for one in refused.rows],
        )
        if refused.failed > len(refused.rows):
            page.say(f"{refused.failed:,} rows of {refused.execution_date} were refused in all.")
    page.finish()


@group.command()
def expire(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed, change nothing.")
    ] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Remove exported files that are older than their expiry."""
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.exports import expire_exports

    page = Page(as_json)
    expiry = expire_exports(Project(open_home(home)), actor=whoami(), dry_run=dry_run)
    page.table(
        "would be removed" if dry_run else "removed",
        ("export", "date", "files", "rows", "expired"),
        [
            (one.export, one.execution_date, one.place, one.rows, one.expired_at)
            for one in expiry.removed
        ],
    )
    page.finish(expiry.failures)


@group.command()
def schema(output: Output = None) -> None:
    """Write the JSON schema of exports.yml, so that editors complete and check its keys."""
    from usergrowth_dagster.cli.common import write_schema
    from usergrowth_dagster.exports.definition import Exports
    from usergrowth_dagster.yaml_file import schema_of

    write_schema(schema_of(Exports, "usergrowth exports.yml"), output)
