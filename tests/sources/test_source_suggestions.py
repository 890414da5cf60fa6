"""What is proposed for logs of different shapes, and that it lands as it stands."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from usergrowth_dagster.cli import app
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.sources.definition import parse_sources
from usergrowth_dagster.sources.suggest import suggest_source
from usergrowth_dagster.views.sources import land_sources

ROWS = range(600)
FIRST = 1_709_251_200  # 2024-03-01 00:00 UTC


LOGS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "invoices.csv": (
        "\n".join(
            [
                "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country",
                *(
                    f'{row // 3},{row % 99:05d},"Käse, alt",{row % 5},3/{1 + row % 28}/2024 {row % 24}:05,'
                    f"{row / 100},{17_000 + row % 70},Österreich"
                    for row in ROWS
                ),
            ]
        ).encode("latin-1"),
        {
            "read": {"encoding": "latin-1"},
            "day.time": "strptime(InvoiceDate, '%m/%d/%Y %H:%M')",
            "user_id": "CustomerID",
            "item_id": "StockCode",
            "num": {"quantity": "Quantity", "unitprice": "UnitPrice"},
            "users": 70,
        },
    ),
    "messages.txt": (
        "\n".join(f"{row % 50} {row % 7} {FIRST + row * 977}" for row in ROWS).encode(),
        {
            "read": {"delimiter": " ", "names": ["column1", "column2", "column3"]},
            "day.time": "to_timestamp(column3::bigint)",
            "user_id": "column1",
            "users": 50,
        },
    ),
    "ratings.tsv": (
        "\n".join(
            [
                "userId\tmovieId\trating\ttimestamp",
                *(f"{row % 50}\t{row % 7}\t{row % 5}.5\t{(FIRST + row) * 1000}" for row in ROWS),
            ]
        ).encode(),
        {
            "read": {},
            "day.time": "epoch_ms(timestamp::bigint)",
            "user_id": "userId",
            "item_id": "movieId",
            "num": {"rating": "rating"},
            "users": 50,
        },
    ),
    "sessions.jsonl": (
        "\n".join(
            json.dumps(
                {
                    "player_id": f"p{row % 30}",
                    "event": ["start", "end"][row % 2],
                    "at": f"2024-03-{1 + row % 9:02d}T08:00:00Z",
                    "data": {"level": row % 9, "seconds": row / 7},
                }
            )
            for row in ROWS
        ).encode(),
        {
            "read": {},
            "day.time": "at",
            "user_id": "player_id",
            "behavior": "event",
            "num": {"data_seconds": "data.seconds"},
            "users": 30,
        },
    ),
    "aligned.txt": (
        "\r\n".join(
            [
                " customer_id  date number_of_cds  dollar_value",
                *(
                    f" {row % 30:05d} 199703{1 + row % 9:02d}  {row % 7}  {row / 7:6.2f}"
                    for row in ROWS
                ),
                "",
            ]
        ).encode(),
        {
            "read": {"delimiter": "spaces"},
            "day.time": "strptime(date, '%Y%m%d')",
            "user_id": "customer_id",
            "num": {"dollar_value": "dollar_value"},
            "users": 30,
            "start_date": "1997-01-01",
        },
    ),
    "blanks_in_names.csv": (
        "\n".join(
            ["the user id,at", *(f"u {row % 9} x,2024-03-0{1 + row % 9}T10:00:00" for row in ROWS)]
        ).encode(),
        {"read": {}, "day.time": "at", "user_id": "the user id", "users": 9},
    ),
    "gbk.csv": (
        "\n".join(
            [
                "会员;商品;时间;金额",
                *(f"张{row % 9};书{row % 5};2024-03-0{1 + row % 9};{row}" for row in ROWS),
            ]
        ).encode("gbk"),
        {
            "read": {"encoding": "gbk", "delimiter": ";"},
            "day.time": "时间",
            "user_id": "会员",
            "item_id": "商品",
            "num": {"金额": "金额"},
            "users": 9,
        },
    ),
}


@pytest.mark.parametrize("name", LOGS)
def test_a_log_is_understood_and_lands(tmp_path: Path, name: str) -> None:
    """Guards against a proposal that takes the wrong column, or that does not land as it stands."""
    content, expected = LOGS[name]
    settings = make_home(
        tmp_path / "home",
        {
            "start_date": expected.get("start_date", "2024-01-01"),
            "today": "2024-05-01",
            "timezone": "UTC",
        },
    )
    (settings.home / name).write_bytes(content)
    suggestion = suggest_source(settings, name, settings.home)
    (source,) = parse_sources(suggestion.text, "suggestion")
    assert source.read.model_dump(mode="json", exclude_defaults=True) == expected["read"]
    assert source.day.time == expected["day.time"]
    assert source.columns["user_id"] == expected["user_id"]
    assert source.columns["behavior"] == expected.get("behavior", "'event'")
    assert source.columns.get("item_id") == expected.get("item_id")
    assert source.num == expected.get("num", {})
    counts = suggestion.counts
    assert (counts["rows"], counts["users"]) == (len(ROWS), expected["users"])
    assert counts["rows without a day"] == 0
    (settings.home / "sources.yml").write_text(suggestion.text, encoding="utf-8")
    landed = land_sources(Project(settings))
    assert not landed.failures
    (landing,) = landed.landings
    assert (landing.rows, len(landing.landed)) == (len(ROWS), counts["days"])


def test_what_cannot_be_told_is_said(tmp_path: Path) -> None:
    """Guards against a day and a month that are interchanged without a word."""
    settings = load_settings(tmp_path, timezone="UTC")
    rows = [f"u{row % 9},{1 + row % 12}/{1 + row % 11}/2024" for row in ROWS]
    (tmp_path / "log.csv").write_text("\n".join(["user,date", *rows]))
    suggestion = suggest_source(settings, "log.csv", tmp_path)
    assert "the other way round" in suggestion.text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("user,amount\nu1,1\nu2,2\n", "no column looks like a time; its columns are user, amount"),
        (
            "user,Promotion,amount\nu1,Yes,1\nu2,No,2\n",
            "if Promotion is the arm of a past experiment, the guide docs/how-to/experiments.md",
        ),
        ("date\n2024-03-01\n2024-03-02\n", "no column looks like a user"),
        ("", "has no header"),
        ("user,at\n", "holds no rows"),
        ("x" * 300_000, "line 1: field larger than field limit"),
    ],
)
def test_a_log_without_what_is_needed_is_a_sentence(
    tmp_path: Path, content: str, reason: str
) -> None:
    """Guards against a proposal out of nothing, and a traceback."""
    (tmp_path / "log.csv").write_text(content)
    with pytest.raises(UserError, match=reason):
        suggest_source(load_settings(tmp_path), "log.csv", tmp_path)


def test_a_name_and_a_packed_file_that_cannot_be_are_a_sentence(tmp_path: Path) -> None:
    """Guards against a traceback for a name with spaces, or a file that only ends in .gz."""
    (tmp_path / "log.csv.gz").write_text("user,at")
    for name, reason in (("My Log", "source: name"), ("log", r"log\.csv\.gz cannot be read")):
        with pytest.raises(UserError, match=reason) as refused:
            suggest_source(load_settings(tmp_path), "log.csv.gz", tmp_path, name)
        assert "\n" not in str(refused.value)


def test_a_proposal_becomes_the_homes_file_once(tmp_path: Path) -> None:
    """Guards against a corrected file that is written over."""
    settings = make_home(tmp_path / "home", {"start_date": "2024-01-01", "today": "2024-05-01"})
    log = tmp_path / "ratings.tsv"
    log.write_bytes(LOGS["ratings.tsv"][0])
    words = ["sources", "suggest", str(log), "--name", "ratings", "--home", str(settings.home)]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0 and "user_id: userId  # userId has 50 values" in shown.stdout
    assert not (settings.home / "sources.yml").exists()
    document = json.loads(CliRunner().invoke(app, [*words, "--write", "--json"]).stdout)
    assert document["counts"]["users"] == 50
    assert CliRunner().invoke(app, ["sources", "land", "--home", str(settings.home)]).exit_code == 0
    again = CliRunner().invoke(app, [*words, "--write"])
    assert isinstance(again.exception, UserError) and "is there already" in str(again.exception)
    landed = list((settings.home / "landing/behavior").iterdir())
    assert {folder.name for folder in landed} == {f"ds={date(2024, 3, 1):%Y%m%d}"}


def test_a_home_is_made_from_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a home whose partitions begin after the log, and a home made for nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("USERGROWTH_HOME", raising=False)
    Path("invoices.csv").write_bytes(LOGS["invoices.csv"][0])
    words = ["init", "--from", "invoices.csv", "--timezone", "UTC", "--home", "home"]
    made = CliRunner().invoke(app, words)
    assert made.exit_code == 0, made.output
    assert "usergrowth backfill --from 2024-03-01 --to 2024-03-28 --only-ingest" in made.stdout
    assert load_settings("home").start_date == date(2024, 3, 1)
    assert CliRunner().invoke(app, ["sources", "land", "--home", "home"]).exit_code == 0
    Path("nothing.csv").write_text("a\n1\n")
    refused = CliRunner().invoke(app, ["init", "--from", "nothing.csv", "--home", "other"])
    assert isinstance(refused.exception, UserError) and not Path("other").exists()
