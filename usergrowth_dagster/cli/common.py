"""What all commands share: the home option, dates, printing, and how they end."""

from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from usergrowth_dagster.days import check_day, read_day
from usergrowth_dagster.errors import listed

Home = Annotated[
    Path | None,
    typer.Option("--home", help="Home folder; default USERGROWTH_HOME, else ./.usergrowth."),
]


def day_of(text: str) -> date:
    """A day from a command's option."""
    try:
        return check_day(read_day(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def say(text: str) -> None:
    """Print a line for a person."""
    from rich.console import Console

    Console(soft_wrap=True, highlight=False).print(text, markup=False)


def table(title: str, header: tuple[str, ...], lines: list[tuple[Any, ...]]) -> None:
    """Print a table for a person."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, title=title, title_justify="left", box=None, pad_edge=False)
    for line in lines:
        table.add_row(*("" if cell is None else str(cell) for cell in line))
    console = Console()
    # A log file has no width; a table cut to 80 columns cannot be read.
    Console(width=max(console.width, 150) if not console.is_terminal else None).print(table)


def print_errors(*sentences: str) -> None:
    """Print errors, one a line, at most twenty, and how many more there are."""
    lines = [line for sentence in sentences for line in sentence.splitlines() if line.strip()]
    for line in listed(lines, "usergrowth dev shows all of them").splitlines():
        typer.echo(f"error: {line}", err=True)


def finish(failures: list[str]) -> None:
    """Exit with 2 when something failed, each in its own sentence."""
    print_errors(*failures)
    if failures:
        raise typer.Exit(2)
