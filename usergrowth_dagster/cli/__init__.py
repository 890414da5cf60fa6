"""The `usergrowth` command: everything that the UI does, without a UI."""

import sys
from typing import Annotated

import typer

from usergrowth_dagster import __version__
from usergrowth_dagster.cli import (
    acquisition,
    affinity,
    audits,
    backups,
    campaigns,
    chain,
    clicks,
    delivery,
    effects,
    experiments,
    exports,
    homes,
    identity,
    interest,
    kannel,
    landing,
    models,
    people,
    profiles,
    quickstart,
    receive,
    recommend,
    segments,
    serving,
    sources,
    sql,
    tags,
)
from usergrowth_dagster.cli.common import print_error_document, print_errors
from usergrowth_dagster.data.storage import is_of_store, one_line
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.interrupts import is_interrupt, keep_interrupts

app = typer.Typer(
    name="usergrowth",
    help="Decide every day whom to text, send the texts safely, and prove what they brought back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"usergrowth {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options of the command itself."""


PARTS = (
    homes,
    backups,
    quickstart,
    campaigns,
    chain,
    sources,
    segments,
    exports,
    affinity,
    interest,
    recommend,
    identity,
    landing,
    delivery,
    clicks,
    effects,
    experiments,
    models,
    people,
    tags,
    profiles,
    audits,
    sql,
    receive,
    serving,
    acquisition,
    kannel,
)
for part in PARTS:
    app.add_typer(part.app)

_INTERRUPTED = 130
_GOES_ON = "interrupted; the same command goes on where this one stopped"


def main() -> None:
    """Run the command; a user's mistake is one sentence and the exit code 2."""
    keep_interrupts()
    try:
        app()
    except UserError as error:
        if "--json" in sys.argv:
            print_error_document(error)
        print_errors(str(error))
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:  # what typer makes of Ctrl-C
            typer.echo(_GOES_ON, err=True)
        raise
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        typer.echo(f"error: {error.strerror or one_line(error)}{place}", err=True)
        sys.exit(2)
    except Exception as error:
        if is_interrupt(type(error).__name__, str(error)):
            typer.echo(_GOES_ON, err=True)
            sys.exit(_INTERRUPTED)
        if is_of_store(error):
            typer.echo(f"error: the object store cannot be used: {one_line(error)}", err=True)
            sys.exit(2)
        # SQLAlchemy is loaded by then, if it is the one that complains.
        origin = getattr(error, "orig", None)
        if origin is None:
            raise
        typer.echo(f"error: the control store cannot be used: {origin}", err=True)
        sys.exit(2)
