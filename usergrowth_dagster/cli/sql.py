"""The command sql: read-only queries, given as text, in a file, through a pipe or in a shell."""

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from usergrowth_dagster.cli.common import Home, print_errors, say, table
from usergrowth_dagster.errors import UserError

if TYPE_CHECKING:
    from usergrowth_dagster.sql_shell.results import FirstRows
    from usergrowth_dagster.sql_shell.shell import SqlShell
    from usergrowth_dagster.sql_shell.statements import Statement

app = typer.Typer()

_FORMATS = ("table", "csv", "json", "parquet")
_HELP = """\
A query ends with a semicolon and may take several lines. Ctrl-C ends a query, Ctrl-D the shell.
  .tables         the tables, their versions, rows and days; then the control records
  .schema TABLE   the columns of a table
  .help           this page
  .quit           leave"""
_PROMPT, _FURTHER = "sql> ", "...> "
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # tabs and line ends are laid out
_FAILED, _INTERRUPTED = 1, 130


@app.command()
def sql(
    query: Annotated[
        str | None, typer.Argument(help="A query; without one, a shell opens.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Run the queries of a file.")
    ] = None,
    at: Annotated[
        str, typer.Option(help="Read the tables as they were at a time: 2026-11-01T08:00.")
    ] = "",
    version: Annotated[
        list[str] | None,
        typer.Option(help="Read a version of a table: decisions=12; may be repeated."),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="table, csv, json or parquet.")] = "table",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the result to a file.")
    ] = None,
    max_rows: Annotated[
        int, typer.Option(min=0, help="Rows that a table shows at most; 0: all of them.")
    ] = 100,
    database: Annotated[
        Path | None,
        typer.Option(help="Write a DuckDB file with a view for each table, and end."),
    ] = None,
    home: Home = None,
) -> None:
    """Query the tables of a home with DuckDB's SQL; nothing can be changed."""
    from usergrowth_dagster.homes.home import require_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.settings import load_settings
    from usergrowth_dagster.settings.places import keep_private
    from usergrowth_dagster.sql_shell.shell import SqlShell
    from usergrowth_dagster.sql_shell.versions import read_versions

    settings = load_settings(home)
    require_home(settings)
    keep_private()
    _check_options(query, file, form, output, database)
    shell = SqlShell(Project(settings), read_versions(settings, at, version or []))
    terminal = Terminal(shell, form, output, max_rows)
    with _exit_codes():
        if database is not None:
            _write_database(shell, database)
        elif query is not None:
            terminal.run(query)
        elif file is not None:
            terminal.run(_text_of(file))
        elif sys.stdin.isatty():
            terminal.talk()
        else:
            terminal.run_pipe(sys.stdin)


def _check_options(
    query: str | None, file: Path | None, form: str, output: Path | None, database: Path | None
) -> None:
    problem = ""
    if form not in _FORMATS:
        problem = f"--format {form}: choose {', '.join(_FORMATS)}"
    elif sum(one is not None for one in (query, file, database)) > 1:
        problem = "give a query, --file or --database, one of them"
    elif output is not None and form == "table":
        problem = "--output: choose --format csv, json or parquet"
    elif output is not None and output.is_dir():
        problem = f"--output {output}: a folder; name a file"
    elif form == "parquet" and output is None and sys.stdout.isatty():
        problem = "--format parquet: name a file with --output"
    if problem:
        raise UserError(problem, code="command.invalid")


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{file}: not UTF-8 text", code="file.unreadable") from None


@contextmanager
def _exit_codes() -> Iterator[None]:
    """A failed query ends the command with 1, Ctrl-C with 130."""
    from usergrowth_dagster.sql_shell.statements import SqlError

    try:
        yield
    except SqlError as error:
        print_errors(str(error))
        raise typer.Exit(_FAILED) from None
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(_INTERRUPTED) from None


def _write_database(shell: "SqlShell", path: Path) -> None:
    from usergrowth_dagster.sql_shell.database import write_database
    from usergrowth_dagster.views.sql import view_of

    tables = [view_of(shell, one) for one in write_database(shell.catalog, path)]
    table("", ("view", "version", "rows"), [(t.table, t.version, f"{t.rows:,}") for t in tables])
    say(f"Wrote {path}. Its views stay at these versions; write it again for newer ones.")


class Terminal:
    """Runs queries and prints what they return.

    Args:
        shell: runs them.
        form: table, csv, json or parquet.
        output: file of the one result; None: standard output.
        max_rows: rows that a table shows; 0: all.
    """

    def __init__(self, shell: "SqlShell", form: str, output: Path | None, max_rows: int) -> None:
        self.shell = shell
        self.form, self.output, self.max_rows = form, output, max_rows
        self._pending = ""  # lines of a query that has no semicolon yet

    def run(self, text: str) -> None:
        """Run the statements of a text; none of them runs if one cannot be read."""
        statements = self.shell.statements(text)
        if self.output is not None and len(statements) != 1:
            raise UserError(
                f"--output takes one result, and here are {len(statements)} queries",
                code="command.invalid",
            )
        for statement in statements:
            self._show(statement)

    def run_pipe(self, lines: Iterable[str]) -> None:
        """Run what comes through a pipe; the first error ends it."""
        if self.output is not None:
            self.run("".join(lines))
            return
        self._run_lines(lines, numbered=True)

    def _run_lines(self, lines: Iterable[str], *, numbered: bool) -> None:
        """Run what comes line by line until it ends.

        Args:
            lines: with their ends.
            numbered: errors count lines from the first of them, not from the query's own.
        """
        from usergrowth_dagster.sql_shell.statements import is_complete

        self._pending = ""
        for number, line in enumerate(lines):
            if not self._pending and line.lstrip().startswith("."):
                if not self.obey(line.strip()):
                    return
                continue
            if not self._pending and not line.strip():
                continue
            before = "\n" * number if numbered and not self._pending else ""
            self._pending += before + line
            if is_complete(self._pending):
                complete, self._pending = self._pending, ""
                self.run(complete)
        if self._pending:
            self.run(self._pending)

    def talk(self) -> None:
        """Talk to a person until they leave; an error or Ctrl-C ends a query, not the shell."""
        from usergrowth_dagster.sql_shell.versions import shown_versions

        settings = self.shell.project.settings
        versions = shown_versions(self.shell.catalog.versions, settings) or "newest versions"
        say(f"Tables of {settings.home}, {versions}, read-only. .help lists the commands.")
        with _history(settings.home / "sql_history", self.shell.catalog.names):
            while True:
                try:
                    self._run_lines(self._typed(), numbered=False)
                    return
                except KeyboardInterrupt:
                    say("interrupted")
                except UserError as error:
                    print_errors(str(error))

    def _typed(self) -> Iterator[str]:
        """Lines as a person types them; the prompt shows whether a query is still open."""
        while True:
            try:
                line = input(_FURTHER if self._pending else _PROMPT)
            except EOFError:
                typer.echo()
                return
            yield f"{line}\n"

    def obey(self, command: str) -> bool:
        """Do what a line with a dot says; False: leave."""
        name, _, rest = command.removesuffix(";").partition(" ")
        if name in (".quit", ".exit"):
            return False
        if name == ".tables":
            self._show_tables()
        elif name == ".schema" and rest.strip():
            self._show_schema(rest.strip())
        elif name == ".help":
            say(_HELP)
        else:
            raise UserError(f"{command}: not a command; .help lists them", code="command.invalid")
        return True

    def _show_tables(self) -> None:
        from usergrowth_dagster.cli.cells import Count
        from usergrowth_dagster.views.sql import read_sql_records, read_sql_tables

        table(
            "Tables",
            ("table", "version", "written", "rows", "days", "first", "last"),
            [
                (t.table, t.version, t.written, Count(t.rows), Count(t.days), t.first, t.last)
                for t in read_sql_tables(self.shell)
            ],
        )
        say("")
        table("Control records, as they are now", ("table", "columns"), read_sql_records())

    def _show_schema(self, name: str) -> None:
        from usergrowth_dagster.views.sql import read_sql_columns

        columns = read_sql_columns(self.shell, name)
        table("", ("column", "type"), [(column.name, column.kind) for column in columns])

    def _show(self, statement: "Statement") -> None:
        from usergrowth_dagster.data.storage import Storage
        from usergrowth_dagster.sql_shell.results import WRITERS, first_rows

        if self.form == "table":
            shown = self.shell.run(statement, lambda result: first_rows(result, self.max_rows))
            _print_rows(shown, as_text=statement.explains)
            return
        write = WRITERS[self.form]

        def produce(target: IO[bytes]) -> None:
            self.shell.run(statement, lambda result: write(result, target))

        if self.output is None:
            produce(sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return
        Storage(str(self.output.absolute().parent)).write_atomic(self.output.name, produce)
        say(f"Wrote {self.output}.")


def _print_rows(shown: "FirstRows", *, as_text: bool) -> None:
    """Print rows as a table; a plan as the text that it is."""
    if as_text:
        for row in shown.rows:
            typer.echo(row[-1])
        return
    header = [column.name for column in shown.columns]
    if shown.rows:
        table("", header, [[_visible(cell) for cell in row] for row in shown.rows])
    if shown.more:
        say(f"The first {len(shown.rows):,} rows; --max-rows shows more, --format csv all of them.")
    else:
        say(f"{len(shown.rows):,} row{'s' if len(shown.rows) != 1 else ''}")


def _visible(text: str | None) -> str:
    """A text whose control characters a terminal shows and does not obey; NULL as such."""
    if text is None:
        return "NULL"
    return _CONTROLS.sub(lambda one: one[0].encode("unicode_escape").decode(), text)


@contextmanager
def _history(file: Path, names: list[str]) -> Iterator[None]:
    """Line editing, completion of names and a history that is kept, where readline is there."""
    try:
        import readline
    except ImportError:
        yield
        return
    words = sorted([*names, ".tables", ".schema ", ".help", ".quit"])

    def complete(text: str, state: int) -> str | None:
        fitting = [word for word in words if word.startswith(text)]
        return fitting[state] if state < len(fitting) else None

    readline.set_completer(complete)
    readline.set_completer_delims(" \t\n,()=<>")
    readline.parse_and_bind("tab: complete")
    with suppress(OSError):
        readline.read_history_file(file)
    try:
        yield
    finally:
        readline.set_history_length(1_000)
        with suppress(OSError):  # a home that cannot be written
            readline.write_history_file(file)
