"""From an event log to a first audience by one command."""

import gzip
import json
import random
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from chain_world import cli, environment, errors, succeeded
from support.processes import run_command
from support.source_databases import PASSWORD, Server

from usergrowth_dagster.quickstart import corrected, with_activity
from usergrowth_dagster.sources.definition import parse_sources

START = datetime(2011, 1, 3, tzinfo=UTC)
DAYS = 150


def visits() -> Iterator[tuple[datetime, int]]:
    """Moments and people: each comes often for a while, then never again."""
    draw = random.Random(5)
    for person in range(300):
        born, life = draw.randint(0, 90), draw.expovariate(1 / 70) + 5
        rate = draw.random() * 0.3 + 0.05
        for day in range(born, min(DAYS, int(born + life))):
            if draw.random() < rate:
                yield START + timedelta(days=day, seconds=draw.randint(0, 86_000)), person


VISITS = sorted(visits())
NEWER = [visit for visit in VISITS if visit[0] >= START + timedelta(days=100)]
"""Fewer days, for tests that need no more."""


def write_invoices(path: Path) -> None:
    """Invoices as one CSV with names in Latin-1 and American dates; ids begin with zeros."""
    lines = ["InvoiceNo,Description,InvoiceDate,UnitPrice,CustomerID"]
    lines += [
        f'{row},"CAFÉ, ROSÉ",{at.month}/{at.day}/{at.year} {at:%H:%M},{1 + row % 9}.5,{who:05d}'
        for row, (at, who) in enumerate(VISITS)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="latin-1")


def write_sessions(path: Path) -> None:
    """Sessions of a game as packed JSON lines; most of the events are no activity."""
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for at, who in VISITS:
            record = {"ts": at.isoformat(), "player": {"id": f"p{who}"}, "seconds": who % 7}
            for event in ("login", "push_received"):
                file.write(json.dumps({"event": event, **record}) + "\n")


def quickstart(
    home: Path, *arguments: str, answers: str = "", **extra: str
) -> "subprocess.CompletedProcess[str]":
    """Run the command, with what a person types."""
    return run_command(
        ["quickstart", "--home", str(home), *arguments],
        environment=environment(home, **extra),
        folder=home.parent,
        given=answers,
    )


def command(home: Path, *arguments: str) -> str:
    """Run a command of the home that must succeed."""
    return succeeded(cli(home, *arguments))


def test_invoices_by_flags_then_sent(tmp_path: Path) -> None:
    """A first hour that ends before an audience, sends before a review, or loses a leading zero."""
    home = tmp_path / "home"
    write_invoices(tmp_path / "invoices.csv")
    said = succeeded(
        quickstart(home, "--log", "invoices.csv", "--timezone", "Europe/London", "--yes")
    )
    output = home / "landing" / "population_output" / "first" / "output.csv"
    chosen = duckdb.sql(f"from read_csv('{output}', all_varchar=true)").fetchall()
    last = VISITS[-1][0].date()
    active = {
        f"{who:05d}" for at, who in VISITS if (last - at.date()).days < 28
    }  # the execution date is the day after the last one
    people = duckdb.sql(
        f"from read_csv('{home}/landing/population/first/population.csv', all_varchar=true)"
    ).fetchall()
    assert {row[0] for row in people} == active
    assert chosen and {row[0] for row in chosen} < active
    assert "Nothing has been sent" in said
    assert not list(home.glob("outbox/**/*.csv"))
    day = last + timedelta(days=1)
    command(home, "review", "signature", "Example")
    command(home, "review", "template", "first text")
    sent = command(home, "run", "--date", str(day))
    assert f"accepted {len(chosen)}" in sent
    again = quickstart(home, "--log", "invoices.csv", "--yes")
    assert "is there already" in errors(again)[0]


def write_messages(path: Path) -> None:
    """Messages of a chat as sender, receiver and second, between spaces, without a header."""
    lines = [f"{who:04d} {(who + 7) % 300:04d} {int(at.timestamp())}" for at, who in NEWER]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_ratings(path: Path) -> None:
    """Ratings as user, film, stars and second, between tabs, without a header."""
    lines = [
        f"{who:04d}\t{row % 17:03d}\t{row % 5 + 1}\t{int(at.timestamp())}"
        for row, (at, who) in enumerate(NEWER)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "write", "behavior", "item", "changes"),
    [
        ("messages.txt", write_messages, "event", None, []),
        (
            "ratings.tsv",
            write_ratings,
            "rate",
            "000",
            ["columns.behavior=\"'rate'\"", "columns.item_id=column2", "num.stars=column3"],
        ),
    ],
)
def test_logs_without_a_header(
    tmp_path: Path,
    name: str,
    write: Callable[[Path], None],
    behavior: str,
    item: str | None,
    changes: list[str],
) -> None:
    """A log of bare columns that does not come to an audience by one command."""
    home = tmp_path / "home"
    write(tmp_path / name)
    options = [f"--set={change}" for change in ["columns.user_id=column1", *changes]]
    succeeded(quickstart(home, "--log", name, "--timezone", "UTC", "--yes", *options))
    rows = duckdb.sql(
        "select user_id, behavior, item_id, kvs_num from "
        f"read_parquet('{home}/landing/behavior/*/*.parquet')"
    ).fetchall()
    assert len(rows) == len(NEWER) and {row[1] for row in rows} == {behavior}
    assert {row[0] for row in rows} == {f"{who:04d}" for _, who in NEWER}
    assert item in {row[2] for row in rows}
    assert all(("stars:" in row[3]) == ("num.stars=column3" in changes) for row in rows)
    output = home / "landing" / "population_output" / "first" / "output.csv"
    chosen = duckdb.sql(f"from read_csv('{output}', all_varchar=true)").fetchall()
    last = NEWER[-1][0].date()
    active = {f"{who:04d}" for at, who in NEWER if (last - at.date()).days < 28}
    assert chosen and {row[0] for row in chosen} < active


@pytest.mark.postgres
def test_a_table_by_questions(tmp_path: Path, postgres_source: Server) -> None:
    """A first hour that ends at a database, reads a part of it, or writes its password down."""
    postgres_source.new_database()
    postgres_source.run("create table visits (id serial primary key, member text, at timestamptz)")
    rows = ", ".join(f"('m{who}', '{at.isoformat()}')" for at, who in VISITS)
    postgres_source.run(f"insert into visits (member, at) values {rows}")
    home, url = tmp_path / "home", postgres_source.url()
    typed = [url, "visits", "VISITS_PASSWORD", "UTC", "", "all", "none"]
    refused = quickstart(home, answers="\n".join(typed) + "\n")
    assert "the environment variable VISITS_PASSWORD is not set" in "\n".join(errors(refused))
    assert not home.exists()
    done = quickstart(home, answers="\n".join(typed) + "\n", VISITS_PASSWORD=PASSWORD)
    assert "Nothing has been sent" in succeeded(done)
    assert PASSWORD not in done.stdout + done.stderr
    text = (home / "sources.yml").read_text(encoding="utf-8")
    (source,) = parse_sources(text, "sources.yml")
    assert source.database is not None and source.database.table == "visits"
    assert source.database.password_env == "VISITS_PASSWORD" and PASSWORD not in text
    landed = duckdb.sql(f"from read_parquet('{home}/landing/behavior/*/*.parquet')").fetchall()
    assert len(landed) == len(VISITS)
    assert (home / "landing" / "population_output" / "first" / "output.csv").exists()


def test_sessions_by_questions(tmp_path: Path) -> None:
    """Answers that are not heeded: the kinds that count, a corrected column, people's numbers."""
    home = tmp_path / "home"
    write_sessions(tmp_path / "sessions.jsonl.gz")
    numbers = [f"p{who},+99900000{who:05d}" for who in range(300) if who % 2]
    (tmp_path / "people.csv").write_text("\n".join(["user_id,phone", *numbers]) + "\n")
    typed = ["sessions.jsonl.gz", "UTC", "columns.usr=x", "num.seconds=", "", "login", "people.csv"]
    said = succeeded(quickstart(home, answers="\n".join(typed) + "\n"))
    (source,) = parse_sources((home / "sources.yml").read_text(encoding="utf-8"), "sources.yml")
    assert source.where == "(event) in ('login')"
    assert source.num == {}
    assert "usr" in said
    landed = duckdb.sql(
        f"select distinct behavior from read_parquet('{home}/landing/behavior/*/*.parquet')"
    ).fetchall()
    assert landed == [("login",)]
    people = duckdb.sql(
        f"select user_id, phone from read_csv('{home}/landing/population/first/population.csv', "
        "all_varchar=true)"
    ).fetchall()
    assert all((phone is not None) == (int(user[1:]) % 2 == 1) for user, phone in people)
    without = sum(phone is None for _, phone in people)
    assert f"{without:,} people have no phone number" in said
    assert f"no_phone {without}" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--log", "none.csv", "--yes"], "none.csv"),
        (["--log", "short.csv", "--yes"], "needs 42 at least"),
        (["--log", "short.csv", "--yes", "--timezone", "Mars/Base"], "Mars/Base"),
        (["--log", "short.csv", "--yes", "--set", "columns.user_id"], "columns.user_id=customer"),
        (["--log", "short.csv", "--yes", "--set", "columns.usr=x"], "usr"),
        (["--log", "short.csv", "--yes", "--activity", "nothing"], "'nothing'"),
        (["--log", "short.csv", "--yes", "--contacts", "short.csv"], "no column user_id"),
        (["--log", "short.csv", "--yes", "--contacts", "none.csv"], "none.csv"),
    ],
)
def test_what_cannot_be_is_a_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    """A mistake that ends in a traceback, or leaves half a home behind."""
    lines = ["time,user", *(f"2024-03-0{1 + row % 9},u{row % 3}" for row in range(40))]
    (tmp_path / "short.csv").write_text("\n".join(lines) + "\n")
    home = tmp_path / "home"
    done = quickstart(home, *arguments)
    assert sentence in "\n".join(errors(done))
    assert not home.exists()


TEXT = """\
sources:
  - name: log
    fills: behavior
    from: x.csv
    day: {time: at}
    columns: {user_id: who, behavior: kind}  # two columns
"""


def test_corrections() -> None:
    """A correction that loses another key, or a condition that an activity replaces."""
    assert corrected(TEXT, []) == TEXT
    (source,) = parse_sources(corrected(TEXT, ["columns.item_id=what", "num.a=b"]), "x")
    assert source.columns == {"user_id": "who", "behavior": "kind", "item_id": "what"}
    assert source.num == {"a": "b"}
    (source,) = parse_sources(with_activity(corrected(TEXT, ["where=a = 1"]), ["it's", "b"]), "x")
    assert source.where == "(a = 1) and (kind) in ('it''s', 'b')"
