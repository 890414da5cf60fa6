"""From an ordinary event log to a first decided audience: a home, a source, a campaign, a decision.

Nothing is sent. The campaign's texts wait for a review, and the gateway writes files. Where no file
of contacts is given, every person has a fictional number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import yaml

from usergrowth_dagster.campaigns.files import apply_files
from usergrowth_dagster.control.audit import whoami
from usergrowth_dagster.control.campaign_schema import FILE_NAME as SCHEMA
from usergrowth_dagster.control.campaign_schema import write_schema
from usergrowth_dagster.data.storage import file_literal
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.explain.data_findings import LEAST_DAYS
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.runs.chain import backfill
from usergrowth_dagster.runs.execute import execute
from usergrowth_dagster.runs.reports import ChainReport
from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.sources.definition import FILE_NAME, Source, parse_sources
from usergrowth_dagster.sources.files import run_reading
from usergrowth_dagster.sources.land import open_source
from usergrowth_dagster.sources.suggest import SAMPLE_ROWS
from usergrowth_dagster.views.sources import land_sources
from usergrowth_dagster.warehouse.engine import Engine, open_engine

NAME = "first"
"""Name of the campaign, its population and its text."""

_MOST_TRAINING_DAYS = 365
_SHOWN_KINDS = 20
_ALL_ROWS = 2**62

Say = Callable[[str], None]


@dataclass(frozen=True)
class Answers:
    """What a person answered.

    Attributes:
        source: the sources.yml: where the log is, and which column is what.
        timezone: the business time zone.
        activity: kinds of behavior that count as activity; none: all do.
        contacts: CSV file with columns user_id and phone; None: fictional numbers.
    """

    source: str
    timezone: str
    activity: tuple[str, ...] = ()
    contacts: Path | None = None


@dataclass(frozen=True)
class FirstAudience:
    """What came out.

    Attributes:
        home: the home folder.
        execution_date: the day after the log's last day.
        people: people in the population, those active in the last days.
        with_number: those of them with a phone number.
        report: what the runs did.
        campaign: the campaign file.
        output: file of the audience with its scores.
    """

    home: Path
    execution_date: date
    people: int
    with_number: int
    report: ChainReport
    campaign: Path
    output: Path


def corrected(text: str, changes: Sequence[str]) -> str:
    """A sources.yml with some keys of its source set anew, as ``columns.user_id=customer``.

    A key without a value is left out. Without changes the text stays as it is, with its comments.

    Raises:
        UserError: a change is not of that form, or the file breaks its format by it.
    """
    if not changes:
        return text
    content = yaml.safe_load(text)
    for change in changes:
        path, equals, value = change.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise UserError(
                f"{change!r}: give a key and its value, as columns.user_id=customer",
                code="command.invalid",
            )
        place: Any = content["sources"][0]
        for key in keys[:-1]:
            place = place.setdefault(key, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise UserError(f"{change!r}: {path} is no key", code="command.invalid")
        if value.strip():
            place[keys[-1]] = yaml.safe_load(value)
        elif "preset" in content["sources"][0]:
            place[keys[-1]] = None  # the preset's own is left out
        else:
            place.pop(keys[-1], None)
    changed = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    parse_sources(changed, FILE_NAME)
    return str(changed)


def kinds_of(timezone: str, text: str) -> list[tuple[str, int]]:
    """The most frequent kinds of behavior of a source, and their rows.

    Raises:
        UserError: the source cannot be read.
    """
    (source,) = parse_sources(text, FILE_NAME)
    settings = load_settings(timezone=timezone)
    with open_source(settings, source, Path.cwd(), sample_rows=SAMPLE_ROWS) as opened:
        select = opened.sql.select(opened.sample(), "true")
        counted = (
            f"select behavior, count(*) from ({select}) as landed group by behavior "
            f"order by count(*) desc, behavior limit {_SHOWN_KINDS}"
        )
        rows = run_reading(source, lambda: opened.engine.rows(counted))
    return [(str(kind), int(count)) for kind, count in rows]


def start(home: Path | None, answers: Answers, say: Say) -> FirstAudience:
    """Make the home, land the log, train, and decide the first audience.

    Args:
        home: the home folder; it has to be new.
        answers: what the person answered.
        say: called with what begins.

    Raises:
        UserError: the contacts cannot be read, the log has too few days, or the home is there
            already, and nothing is made; or the log cannot be landed, and what was made stays.
    """
    from usergrowth_dagster.defs.jobs import CHOOSE

    text = with_activity(answers.source, answers.activity)
    if answers.contacts is not None:
        with open_engine(load_settings(home)) as engine:
            _bind_contacts(engine, answers.contacts)  # before anything is made
    first, last = _span(answers.timezone, text)
    if (last - first).days + 1 < LEAST_DAYS:
        raise UserError(
            f"the log has {(last - first).days + 1} days, from {first} to {last}, and a churn "
            f"model needs {LEAST_DAYS} at least",
            code="training.insufficient",
        )
    settings = _make_home(home, answers.timezone, text, first, last)
    say(f"1. Made {settings.home} with {FILE_NAME}; landing the log from {first} to {last}")
    project = Project(settings)
    landed = land_sources(project)
    if landed.failures:
        raise UserError("\n".join(landed.failures), code="source.unreadable")
    say("2. Making the facts of every day")
    made = backfill(settings, first, last, only_ingest=True)
    if made.has_failures:
        raise UserError("\n".join([*made.failures, *made.ingest.failures]), code="run.failed")
    day = last + timedelta(days=1)
    people, with_number = write_people(project, day, answers.contacts)
    say(f"3. Wrote a campaign for the {people:,} people who were active in the last days")
    campaign = _write_campaign(settings, day, (last - first).days + 1, people)
    list(apply_files(project, [campaign], whoami()))
    say("4. Training a model, scoring the people and deciding")
    report = ChainReport(made.ingest, execute(CHOOSE, partition=day.isoformat()))
    output = settings.home / "landing" / "population_output" / NAME / "output.csv"
    return FirstAudience(settings.home, day, people, with_number, report, campaign, output)


def with_activity(text: str, kinds: Sequence[str]) -> str:
    """A sources.yml that takes some kinds of behavior alone."""
    if not kinds:
        return text
    (source,) = parse_sources(text, FILE_NAME)
    chosen = ", ".join(literal(kind) for kind in kinds)
    condition = f"({source.columns['behavior']}) in ({chosen})"
    if source.where:
        condition = f"({source.where}) and {condition}"
    content = yaml.safe_load(text)
    content["sources"][0]["where"] = condition
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _span(timezone: str, text: str) -> tuple[date, date]:
    """The first and the last day of a source that are over; a database is read to its end."""
    settings = load_settings(timezone=timezone)
    (source,) = parse_sources(text, FILE_NAME)
    _refuse_other_tables(source)
    with open_source(settings, source, Path.cwd(), sample_rows=_ALL_ROWS) as opened:
        select = opened.sql.select(opened.relation(None), "true")
        sql = (
            f"select min(ds), max(ds) from ({select}) as landed "
            f"where ds < date '{settings.current_date()}'"
        )
        ((first, last),) = run_reading(source, lambda: opened.engine.rows(sql))
    if first is None:
        condition = f" and meets {source.where}" if source.where else ""
        raise UserError(
            f"no row of the log is of a day that is over{condition}; look at its time "
            f"({source.day.time}) and its kinds of behavior",
            code="source.unreadable",
        )
    return first, last


def _refuse_other_tables(source: Source) -> None:
    """Refuse an export that is no log of behaviors.

    Raises:
        UserError: names the table that it fills.
    """
    if source.fills != "behavior":
        raise UserError(
            f"the file fills the table {source.fills}; give a log of what people did, and add this "
            f"one to {FILE_NAME} later",
            code="source.invalid",
        )


def _make_home(home: Path | None, timezone: str, text: str, first: date, last: date) -> Settings:
    """A new home with the source; its clock stands after the log's last day where that is past."""
    chosen = load_settings(home, timezone=timezone)
    path = chosen.home / FILE_NAME
    if path.exists():
        raise UserError(
            f"{path} is there already; go on with usergrowth sources land, or name another home",
            code="home.exists",
        )
    values: dict[str, Any] = {"timezone": timezone, "start_date": first.isoformat()}
    day = last + timedelta(days=1)
    if day < chosen.current_date():
        values["today"] = day.isoformat()
    settings = make_home(home, values)
    (settings.home / FILE_NAME).write_text(text, encoding="utf-8")
    return settings


def write_people(project: Project, day: date, contacts: Path | None) -> tuple[int, int]:
    """Upload the people who were active before a day as a population.

    Args:
        project: the home.
        day: the execution date.
        contacts: CSV file with columns user_id and phone; None: fictional numbers.

    Returns:
        People, and those of them with a number.

    Raises:
        UserError: nobody was active, or the file of contacts lacks a column.
    """
    first = day - timedelta(days=project.settings.active_days)
    files = [
        file
        for on, names in project.warehouse.files("user_day").items()
        if first <= on < day
        for file in names
    ]
    if not files:
        raise UserError(
            f"nobody was active in the {project.settings.active_days} days before {day}",
            code="source.unreadable",
        )
    folder = project.settings.home / "landing" / "population" / NAME
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "population.csv"
    listed = ", ".join(file_literal(file) for file in files)
    with open_engine(project.settings) as engine:
        engine.run(
            f"create table people as select distinct user_id from read_parquet([{listed}]) "
            "order by user_id"
        )
        if contacts is None:
            numbers = (
                "'+999' || lpad(cast(row_number() over (order by user_id) as varchar), 10, '0')"
            )
            select = f"select user_id, 'none' as item_id, {numbers} as phone from people"
        else:
            _bind_contacts(engine, contacts)
            select = (
                "select p.user_id, 'none' as item_id, c.phone from people as p "
                "left join contacts as c on p.user_id = c.user_id"
            )
        engine.run(f"create table population as {select}")
        engine.run(
            f"copy (select * from population order by user_id) to {literal(str(target))} "
            "(format csv, header)"
        )
        ((people, with_number),) = engine.rows("select count(*), count(phone) from population")
    (folder / "_SUCCESS").touch()
    return int(people), int(with_number)


def _bind_contacts(engine: Engine, file: Path) -> None:
    """Make the table ``contacts``, a number a user.

    Raises:
        UserError: the file cannot be read, or lacks a column.
    """
    source = f"read_csv({file_literal(str(file.expanduser().absolute()))}, all_varchar=true)"
    try:
        columns = engine.describe(f"select * from {source}")
    except Exception as error:
        raise UserError(
            f"{file}: cannot be read as CSV: {str(error).splitlines()[0]}", code="command.invalid"
        ) from None
    missing = [name for name in ("user_id", "phone") if name not in columns]
    if missing:
        raise UserError(
            f"{file}: has no column {missing[0]}; its columns are {', '.join(columns)}",
            code="command.invalid",
        )
    engine.run(
        f"create table contacts as select user_id, max(nullif(trim(phone), '')) as phone "
        f"from {source} group by user_id"
    )


_CAMPAIGN = """\
# yaml-language-server: $schema={schema}
# Who of the active people is about to fall silent? Change what you like, then apply it again:
# usergrowth apply -f <this file>
name: {name}
algorithm: {{kind: churn}}
training: {{window_days: {window}}}
population: population/{name}
execution_date: {day}
selection: {{top_n: {top}}}          # the most likely tenth
holdout: {{share: 0.1}}          # this part of the chosen gets nothing, so that the effect is known
signature: {{name: Example}}     # stands in 【】 before the text
template:
  name: {name} text
  type: promotion
  content: We have not seen you for a while. Reply R to opt out 拒收请回复R
schedule: {{name: {name}}}
"""


def _write_campaign(settings: Settings, day: date, days: int, people: int) -> Path:
    """The campaign file: the tenth of the people who are most likely to fall silent."""
    folder = settings.home / "campaigns"
    folder.mkdir(exist_ok=True)
    write_schema(folder / SCHEMA)
    path = folder / f"{NAME}.yaml"
    path.write_text(
        _CAMPAIGN.format(
            schema=SCHEMA,
            name=NAME,
            day=day,
            window=min(days, _MOST_TRAINING_DAYS),
            top=max(1, people // 10),
        ),
        encoding="utf-8",
    )
    return path
