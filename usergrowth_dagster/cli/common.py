"""What all commands share: the options --home and --json, dates, printing, and how they end."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from usergrowth_dagster.days import check_day, read_day
from usergrowth_dagster.errors import UserError, listed

Home = Annotated[
    Path | None,
    typer.Option("--home", help="Home folder; default USERGROWTH_HOME, else ./.usergrowth."),
]

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document to standard output instead.")
]

MetricsPort = Annotated[
    int | None,
    typer.Option(
        min=1, max=65535, help="Port where Prometheus reads this process's figures; default: none."
    ),
]
MetricsHost = Annotated[
    str, typer.Option(help="Address of that port; beyond this machine only where a firewall is.")
]
LogFormat = Annotated[
    Literal["text", "json"],
    typer.Option(help="text for a person; json: an object a line, for a collector of logs."),
]


def day_of(text: str) -> date:
    """A day from a command's option."""
    try:
        return check_day(read_day(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def optional_day(text: str) -> date | None:
    """A day from a command's option; None where it was left out."""
    return day_of(text) if text else None


def say(text: str) -> None:
    """Print a line for a person."""
    from rich.console import Console

    Console(soft_wrap=True, highlight=False).print(text, markup=False)


def logged(logger: str) -> Callable[[str], None]:
    """Takes a line as :func:`say` does, and logs it."""
    import logging

    def say_in_log(text: str) -> None:
        logging.getLogger(logger).info("%s", text)

    return say_in_log


def warn(text: str) -> None:
    """Print a sentence that should be read before the work goes on."""
    typer.echo(f"warning: {text}", err=True)


def table(title: str, header: Sequence[str], lines: Sequence[Sequence[Any]]) -> None:
    """Print a table for a person."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from usergrowth_dagster.cli.cells import shown

    if not lines:
        say(f"{title}: none" if title else "none")
        return
    table = Table(*header, box=None, pad_edge=False)
    for line in lines:
        table.add_row(*(Text(shown(cell)) for cell in line))
    console = Console()
    if not console.is_terminal:  # a log file has no width; a table cut to 80 columns is unreadable
        console = Console(width=max(console.width, 150))
    if title:  # a title of the table would be cut into lines as narrow as the table
        console.print(Text(title, style="italic"))
    console.print(table)


def print_errors(*sentences: str) -> None:
    """Print errors, one a line, at most twenty, and how many more there are."""
    lines = [line for sentence in sentences for line in sentence.splitlines() if line.strip()]
    for line in listed(lines, "usergrowth dev shows all of them").splitlines():
        typer.echo(f"error: {line}", err=True)


def print_error_document(error: UserError) -> None:
    """Print what ended a command as one JSON document: its sentences, its code and its hint."""
    from usergrowth_dagster.documents import document

    text = document(
        {
            "errors": [{"code": error.code, "hint": error.hint, "message": str(error)}],
            "failures": str(error).splitlines(),
            "notes": [],
        }
    )
    typer.echo(text.encode("utf-8", "backslashreplace"))


class Page:
    """What a command shows: printed at once for a person, or as one JSON document at the end.

    The document holds each table under its title (``rows`` without one) as a list of objects, the
    sentences as ``notes``, and as ``failures`` those of :meth:`finish`. A command that has more to
    say than its tables gives its own value to :meth:`document` instead.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._notes: list[str] = []
        self._tables: dict[str, list[dict[str, Any]]] = {}
        self._document: Any = None

    def say(self, text: str) -> None:
        """A sentence; a blank one is a blank line for a person."""
        if not self.as_json:
            say(text)
        elif text.strip():
            self._notes.append(text.strip())

    def table(self, title: str, header: Sequence[str], lines: Sequence[Sequence[Any]]) -> None:
        """A table of values; :mod:`usergrowth_dagster.cli.cells` says how each is written."""
        if not self.as_json:
            table(title, header, lines)
            return
        from usergrowth_dagster.cli.cells import key, records

        self._tables.setdefault(key(title) or "rows", []).extend(records(header, lines))

    def section(self, title: str, header: Sequence[str], lines: Sequence[Sequence[Any]]) -> None:
        """A table with a blank line after it."""
        self.table(title, header, lines)
        self.say("")

    def markdown(self, text: str) -> None:
        """A document in markdown: laid out on a terminal, as it is in a file."""
        import sys

        if self.as_json:
            self._notes.append(text)
        elif sys.stdout.isatty():
            from rich.console import Console
            from rich.markdown import Markdown

            Console().print(Markdown(text))
        else:
            typer.echo(text)

    def document(self, value: Any) -> None:
        """The JSON document, instead of tables and sentences; a person does not see it."""
        self._document = value

    def finish(self, failures: Sequence[str] = ()) -> None:
        """Print the document where one is wanted; exit with 2 when something failed."""
        if self.as_json:
            from usergrowth_dagster.documents import document

            made = {**self._tables, "notes": self._notes, "failures": list(failures)}
            text = document(made if self._document is None else self._document)
            # JSON is UTF-8 whatever the terminal's encoding; half a character becomes its escape
            typer.echo(text.encode("utf-8", "backslashreplace"))
        finish(failures)


Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="File to write; default standard output.")
]


def write_schema(schema: Mapping[str, Any], output: Path | None) -> None:
    """Write a file's JSON schema to a file, or to the standard output without one."""
    from usergrowth_dagster.documents import document

    text = document(schema) + "\n"
    if output is None:
        typer.echo(text.encode(), nl=False)
        return
    output.write_text(text, encoding="utf-8")
    say(f"Wrote {output}.")


def finish(failures: Sequence[str]) -> None:
    """Exit with 2 when something failed, each in its own sentence."""
    print_errors(*failures)
    if failures:
        raise typer.Exit(2)
