"""The sources of a home as people look at them: what their files hold, and the rows they make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usergrowth_dagster.addresses.shown import mask
from usergrowth_dagster.data.contracts import IDENTITY
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.intake.forgotten import forgotten_people
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.sources.databases.keys import is_database_url
from usergrowth_dagster.sources.definition import FILE_NAME, Source, read_sources
from usergrowth_dagster.sources.files import run_reading
from usergrowth_dagster.sources.land import SourceLanding, land_source, open_source
from usergrowth_dagster.sources.presets.registry import presets
from usergrowth_dagster.sources.suggest import Suggestion, suggest_source, suggest_table


@dataclass(frozen=True)
class SourceLook:
    """A source whose files can be read and whose expressions hold.

    Attributes:
        source: its name.
        table: the landing table that it fills.
        format: csv, json or parquet; delta or iceberg; postgresql or mysql.
        files: how many files its patterns name, or data files its table has; none for a database.
        columns: DuckDB type of each column of its files or its table.
    """

    source: str
    table: str
    format: str
    files: int
    columns: dict[str, str]


@dataclass(frozen=True)
class Sources:
    """What was done with several sources, and a sentence for each that failed."""

    looks: tuple[SourceLook, ...] = ()
    landings: tuple[SourceLanding, ...] = ()
    failures: tuple[str, ...] = ()


def sources_of(project: Project, name: str | None = None) -> tuple[Source, ...]:
    """The sources of a home, or the one of a name.

    Raises:
        UserError: the home has no sources.yml, it breaks its format, or has no source of that name.
    """
    sources = read_sources(project.settings.home / FILE_NAME)
    chosen = tuple(source for source in sources if name in (None, source.name))
    if not chosen:
        known = ", ".join(source.name for source in sources)
        raise UserError(
            f"{FILE_NAME} has no source {name!r}; it has {known}", code="source.unknown"
        )
    return chosen


@dataclass(frozen=True)
class PresetLook:
    """One landing table that a preset fills.

    Attributes:
        preset: its name.
        title: what the export is.
        table: the landing table.
        file: the file of the export that fills it.
        documentation: pages that describe the format.
    """

    preset: str
    title: str
    table: str
    file: str
    documentation: tuple[str, ...]


def known_presets() -> tuple[PresetLook, ...]:
    """The exports that sources.yml can name, by name and landing table.

    Raises:
        SetUpError: a file of a preset cannot be read.
    """
    return tuple(
        PresetLook(preset.name, preset.title, table, export.file, preset.documentation)
        for preset in presets().values()
        for table, export in preset.fills.items()
    )


def suggest(
    project: Project, files: str, name: str, *, write: bool
) -> tuple[Suggestion, Path | None]:
    """Propose a sources.yml for a log; with ``write``, make it the home's, and return its path.

    Relative paths start from where the command is given.

    Raises:
        UserError: the log cannot be read or understood, or the home has a sources.yml already.
    """
    home = project.settings.home
    suggestion = suggest_source(project.settings, _absolute(files), home, name)
    return suggestion, suggestion.write(home) if write else None


def database_keys(
    url: str,
    table: str | None,
    query: str | None,
    password_env: str | None,
    password_file: str | None,
) -> dict[str, str] | None:
    """Keys of a database as a person gives them; None where the URL is that of no database.

    Raises:
        UserError: a key of a database is given for something else, or the table is not.
    """
    given = {
        "table": table,
        "query": query,
        "password_env": password_env,
        "password_file": password_file and _absolute(password_file),
    }
    keys = {key: value for key, value in given.items() if value is not None}
    if not is_database_url(url):
        if keys:
            option = next(iter(keys)).replace("_", "-")
            raise UserError(
                f"--{option} is of a database, and the log is not the URL of one",
                code="command.invalid",
            )
        return None
    if table is None and query is None:
        raise UserError("name a table of the database with --table", code="command.invalid")
    return {"url": url, **keys}


def suggest_database(
    project: Project, database: Mapping[str, str], name: str, *, write: bool
) -> tuple[Suggestion, Path | None]:
    """Propose a sources.yml for a table; with ``write``, make it the home's, and return its path.

    Args:
        project: the home.
        database: keys of a database as sources.yml has them.
        name: of the source.
        write: whether the home gets the file.

    Raises:
        UserError: the table cannot be read or understood, or the home has a sources.yml already.
    """
    home = project.settings.home
    suggestion = suggest_table(project.settings, database, home, name)
    return suggestion, suggestion.write(home) if write else None


def suggest_for(timezone: str, log: str, database: Mapping[str, str] | None = None) -> Suggestion:
    """Propose a sources.yml for a home that is not made yet.

    Args:
        timezone: the business time zone.
        log: files; a relative path starts from where the command is given.
        database: keys of a database as sources.yml has them, instead of files.

    Raises:
        UserError: the log cannot be read or understood, or there is no such time zone.
    """
    settings = load_settings(timezone=timezone)
    if database is not None:
        return suggest_table(settings, database, Path.cwd())
    return suggest_source(settings, _absolute(log), Path.cwd())


def _absolute(files: str) -> str:
    return files if "://" in files else str(Path(files).expanduser().absolute())


def check_sources(project: Project, name: str | None = None) -> Sources:
    """Open every source; those that fail do not keep the others from being looked at.

    Raises:
        UserError: sources.yml cannot be read.
    """
    looks, failures = [], []
    for source in sources_of(project, name):
        try:
            with open_source(project.settings, source, project.settings.home) as opened:
                database = source.database
                kind = opened.kind if database is None else database.dialect
                files = len(opened.files) if database is None else 0
                columns = dict(opened.columns)
                looks.append(SourceLook(source.name, source.fills, kind, files, columns))
        except UserError as error:
            failures.append(str(error))
    return Sources(looks=tuple(looks), failures=tuple(failures))


def preview_source(project: Project, name: str, rows: int) -> tuple[list[str], list[Sequence[Any]]]:
    """Column names and some rows as a source would land them, nothing written; ids are masked.

    Raises:
        UserError: there is no such source, or it cannot be read.
    """
    (source,) = sources_of(project, name)
    with open_source(project.settings, source, project.settings.home) as opened:
        sql = f"{opened.sql.select(opened.sample(), 'true')} limit {int(rows)}"
        lines = run_reading(source, lambda: opened.engine.rows(sql))
        names = [*opened.sql.columns, "ds"]
    masked = names.index("id_value") if source.fills == IDENTITY else None
    return names, [
        [mask(value) if place == masked else value for place, value in enumerate(row)]
        for row in lines
    ]


def land_sources(project: Project, name: str | None = None, *, reread: bool = False) -> Sources:
    """Land every source; one that fails does not keep the others from landing.

    With ``reread`` all rows of a database are read anew.

    Raises:
        UserError: sources.yml cannot be read.
    """
    landings, failures = [], []
    forgotten = forgotten_people(project)
    for source in sources_of(project, name):
        try:
            home = project.settings.home
            landings.append(
                land_source(
                    *(project.settings, project.landing, project.state, source, home),
                    reread=reread,
                    forgotten=forgotten,
                )
            )
        except UserError as error:
            failures.append(str(error))
    return Sources(landings=tuple(landings), failures=tuple(failures))
