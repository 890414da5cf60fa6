"""What a person types and sees of a database: suggest, check, preview, land; and the asset."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from support.database_desk import DatabaseDesk, make_orders, order
from support.source_databases import PASSWORD, with_password
from typer.testing import CliRunner

from usergrowth_dagster.cli import app
from usergrowth_dagster.defs.build import build_definitions
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.runs.chain import backfill
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.sources.definition import parse_sources
from usergrowth_dagster.sources.suggest import suggest_table

BY_CHANGE = "table: orders\ncursor: changed\nkey: id"


@pytest.fixture
def shop(desk: DatabaseDesk) -> DatabaseDesk:
    """A home, and a table with orders of three days."""
    desk.home.rmdir()
    make_home(desk.home, {"start_date": "2024-03-01", "today": "2024-03-20", "timezone": "UTC"})
    make_orders(desk.server)
    for number in range(1, 10):
        at = f"2024-03-0{number % 3 + 1} 08:00:00"
        order(desk.server, number, f"00{number % 4}", at, item=f"i{number % 2}")
    return desk


def run(shop: DatabaseDesk, *words: str) -> dict[str, Any]:
    result = CliRunner().invoke(
        app, [*words, "--home", str(shop.home), "--json"], catch_exceptions=False
    )
    assert PASSWORD not in result.output
    assert result.exit_code == 0
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_from_a_url_to_landed_days(shop: DatabaseDesk) -> None:
    """Guards against a proposal that does not land, or does not say why it is so."""
    options = ["--table", "orders", "--password-env", "SHOP_PASSWORD", "--name", "orders"]
    suggested = run(shop, "sources", "suggest", shop.server.url(), *options, "--write")
    (source,) = parse_sources(suggested["text"], "x")
    assert source.database is not None
    assert (source.database.cursor, source.database.key) == ("changed", ("id",))
    assert source.database.late == "10 minutes"
    assert "changed is a time of change in every row and has no index" in suggested["text"]
    assert source.columns["user_id"] == "who" and source.day.time == "at"
    assert suggested["counted"] == "the first 9 of 9 rows"
    assert suggested["counts"]["rows"] == 9 and suggested["counts"]["days"] == 3
    (checked,) = run(shop, "sources", "check")["sources"]
    assert (checked["format"], checked["files"]) == (shop.server.kind, 0)
    assert "who VARCHAR" in checked["columns"] and "at TIMESTAMP" in checked["columns"]
    rows = run(shop, "sources", "preview", "orders")["rows"]
    assert {row["user_id"] for row in rows} == {"000", "001", "002", "003"}
    assert not shop.parts.exists() and not shop.landed()
    landed = run(shop, "sources", "land")
    assert landed["sources"][0]["days_landed"] == 3
    assert landed["databases"] == [
        {
            "source": "orders",
            "rows_read": 9,
            "new": 9,
            "replaced": 0,
            "rows_held": 9,
            "cursor": "2024-03-03 08:00:00",
        }
    ]
    again = run(shop, "sources", "land", "orders", "--reread")
    assert again["databases"][0]["rows_read"] == 9 and again["sources"][0]["days_landed"] == 0


def test_a_home_from_a_url(
    desk: DatabaseDesk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Guards against init that takes files alone, or a home that is made for a table it refuses."""
    make_orders(desk.server)
    for number in range(1, 10):
        order(desk.server, number, f"00{number % 4}", f"2024-03-0{number % 3 + 1} 08:00:00")
    monkeypatch.delenv("USERGROWTH_HOME", raising=False)
    (tmp_path / "secret").write_text(PASSWORD)
    (tmp_path / "secret").chmod(0o600)
    home, url = tmp_path / "made", desk.server.url()
    words = ["init", "--timezone", "UTC", "--home", str(home), "--from"]

    def refused(*more: str) -> str:
        with pytest.raises(UserError) as error:
            CliRunner().invoke(app, [*words, *more], catch_exceptions=False)
        assert PASSWORD not in str(error.value) and not home.exists()
        return str(error.value)

    assert "--table" in refused(url)
    assert "a password never stands here" in refused(with_password(url), "--table", "orders")
    env = ["--password-env", "SHOP_PASSWORD"]
    assert "did you mean 'orders'?" in refused(url, "--table", "oders", *env)
    assert "--table is of a database" in refused("log.csv", "--table", "orders")
    monkeypatch.chdir(tmp_path)
    options = ["--table", "orders", "--password-file", "secret"]
    made = CliRunner().invoke(app, [*words, url, *options], catch_exceptions=False)
    assert made.exit_code == 0 and PASSWORD not in made.output
    assert "backfill --from 2024-03-01 --to 2024-03-03" in made.output
    text = (home / "sources.yml").read_text()
    (source,) = parse_sources(text, "sources.yml")
    assert source.database is not None and PASSWORD not in text
    assert source.database.password_file == str(tmp_path / "secret")
    assert load_settings(home).start_date == date(2024, 3, 1)
    landed = CliRunner().invoke(
        app, ["sources", "land", "--json", "--home", str(home)], catch_exceptions=False
    )
    assert json.loads(landed.stdout)["sources"][0]["rows"] == 9


@pytest.mark.parametrize(
    ("table", "keys", "reason"),
    [
        ("(id int primary key, who varchar(9), at timestamp)", {"cursor": "id", "late": 1000}, "and a whole number: new rows are seen"),
        ("(who varchar(9), at timestamp, amount int)", {"cursor": "at", "late": "10 minutes"}, "at is a time in every row and has no index"),
        ("(who varchar(9), at varchar(30))", {}, "no column grows by its type and name"),
    ],
)  # fmt: skip
def test_what_a_table_grows_by(
    desk: DatabaseDesk, table: str, keys: dict[str, Any], reason: str
) -> None:
    """Guards against a cursor that does not grow, proposed since its name is right."""
    desk.server.run(f"create table log {table}")
    columns = "who, at" if "id int" not in table else "id, who, at"
    number = "1, " if "id int" in table else ""
    desk.server.run(f"insert into log ({columns}) values ({number}'a', '2024-03-01 01:02:03')")
    number = "2, " if "id int" in table else ""
    desk.server.run(f"insert into log ({columns}) values ({number}'b', '2024-03-01 01:02:04')")
    database = {"url": desk.server.url(), "password_env": "SHOP_PASSWORD", "table": "log"}
    suggestion = suggest_table(desk.settings, database, desk.home)
    (source,) = parse_sources(suggestion.text, "x")
    assert source.database is not None
    given = source.database.model_dump(
        exclude_defaults=True, exclude={"url", "password_env", "table"}
    )
    assert given == keys
    assert reason in suggestion.text


def test_what_suggest_refuses(shop: DatabaseDesk) -> None:
    """Guards against a traceback, and a password in a shell's history that is accepted."""

    def refused(*words: str) -> str:
        with pytest.raises(UserError) as error:
            run(shop, "sources", "suggest", *words)
        assert PASSWORD not in str(error.value) and "\n" not in str(error.value)
        return str(error.value)

    url = shop.server.url()
    assert "--table" in refused(url)
    assert "a password never stands here" in refused(with_password(url), "--table", "orders")
    assert "--table is of a database" in refused("log.csv", "--table", "orders")
    env = ["--password-env", "SHOP_PASSWORD"]
    assert "did you mean 'orders'?" in refused(url, "--table", "oders", *env)
    shop.server.run("create table nothing (who varchar(9), at timestamp)")
    assert "holds no rows" in refused(url, "--table", "nothing", *env)


def test_the_asset_shows_what_was_pulled(
    shop: DatabaseDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a source whose freshness nobody sees, and a URL or password in the metadata."""
    monkeypatch.setenv("USERGROWTH_HOME", str(shop.home))
    monkeypatch.setenv("DAGSTER_HOME", str(shop.home / "dagster"))
    shop.write(BY_CHANGE)
    settings = load_settings(shop.home)
    report = backfill(settings, date(2024, 3, 1), date(2024, 3, 3), only_ingest=True)
    assert report.ingest.rows["source_orders"] == 9 == report.ingest.rows["raw_behavior"]
    metadata = report.ingest.metadata["source_orders"]
    assert (metadata["rows_pulled"], metadata["rows_new"], metadata["rows_held"]) == (9, 9, 9)
    assert metadata["cursor"] == "2024-03-03 08:00:00" and metadata["newest_day"] == "2024-03-03"
    assert "pulled_at" in metadata
    assert "reader" not in str(metadata) and PASSWORD not in str(metadata)
    shop.server.run("update orders set price = 5, changed = '2024-03-04 01:00:00' where id = 9")
    again = backfill(settings, date(2024, 3, 1), date(2024, 3, 3), only_ingest=True)
    assert again.ingest.metadata["source_orders"]["rows_replaced"] == 1
    assert again.ingest.metadata["source_orders"]["days_landed"] == 1
    graph = build_definitions(str(shop.home)).resolve_asset_graph()
    asset = next(node for node in graph.asset_nodes if node.key.path == ["source_orders"])
    assert "127.0.0.1" in (asset.description or "") and "reader" not in (asset.description or "")
    assert shop.server.kind in asset.kinds


def test_a_failed_run_shows_no_password(
    shop: DatabaseDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a password in Dagster's event log or a file of the home."""
    monkeypatch.setenv("USERGROWTH_HOME", str(shop.home))
    monkeypatch.setenv("DAGSTER_HOME", str(shop.home / "dagster"))
    monkeypatch.setenv("SHOP_PASSWORD", "not-the-secret-one")
    shop.write(BY_CHANGE)
    with pytest.raises(UserError, match=r"^sources\.yml: source orders: database\.url: "):
        backfill(load_settings(shop.home), date(2024, 3, 1), date(2024, 3, 3), only_ingest=True)
    for path in shop.home.rglob("*"):
        if path.is_file():
            assert b"not-the-secret-one" not in path.read_bytes(), path
