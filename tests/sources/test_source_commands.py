"""What a person types to bring in a log: check, preview, land; and what each says."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from usergrowth_dagster.cli import app
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.home import make_home

SOURCES = """
sources:
  - name: sales
    fills: behavior
    from: sales.csv
    day: {time: day}
    columns: {user_id: buyer, behavior: "'buy'"}
    num: {amount: price}
    unique: [sale]
  - name: lost
    fills: user
    from: nowhere/*.parquet
    day: {snapshot: 2024-01-01}
    columns: {user_id: id}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    settings = make_home(tmp_path / "home", {"start_date": "2024-01-01", "today": "2024-01-10"})
    (settings.home / "sources.yml").write_text(SOURCES)
    rows = ["1,007,2024-01-08,3.5", "1,007,2024-01-08,3.5", "2,008,2024-01-10,1", "3,9,,much"]
    (settings.home / "sales.csv").write_text("\n".join(["sale,buyer,day,price", *rows]))
    return settings.home


def run(*words: str) -> tuple[int, dict[str, object]]:
    result = CliRunner().invoke(app, [*words, "--json"])
    return result.exit_code, json.loads(result.stdout)


def test_a_source_that_fails_does_not_keep_the_others(home: Path) -> None:
    """Guards against a good source that does not land, and a failure that nobody sees."""
    for command in ("check", "land"):
        code, document = run("sources", command, "--home", str(home))
        assert code == 2
        assert document["failures"] == ["source lost: from.0: no file matches 'nowhere/*.parquet'"]
        assert [row["source"] for row in document["sources"]] == ["sales"]  # type: ignore[attr-defined]
    assert (home / "landing/behavior/ds=20240108/source-sales.parquet").exists()


def test_landing_says_what_did_not_land(home: Path) -> None:
    """Guards against rows that vanish without a word."""
    code, document = run("sources", "land", "sales", "--home", str(home))
    assert code == 0
    (row,) = document["sources"]  # type: ignore[misc]
    assert (row["days_landed"], row["waiting"], row["rows"]) == (1, 1, 1)
    assert document["notes"] == [
        "sales: 1 rows have no day and do not land",
        "sales: 1 rows left out: another has the same key (unique)",
        "sales: 2024-01-10 waits: the day is not over",
        "next: usergrowth backfill --from 2024-01-08 --to 2024-01-08 --only-ingest",
    ]


def test_a_preview_writes_nothing(home: Path) -> None:
    """Guards against a look that lands rows."""
    code, document = run("sources", "preview", "sales", "--home", str(home))
    assert code == 0
    rows = document["rows"]
    assert {row["user_id"] for row in rows} == {"007", "008", "9"}  # type: ignore[attr-defined]
    assert not list((home / "landing").rglob("*.parquet"))


def test_a_home_without_sources_is_a_sentence(home: Path) -> None:
    """Guards against a traceback where the file or the name is not there."""
    with pytest.raises(UserError, match="has no source 'sale'; it has sales, lost"):
        CliRunner().invoke(
            app, ["sources", "land", "sale", "--home", str(home)], catch_exceptions=False
        )
    (home / "sources.yml").unlink()
    with pytest.raises(UserError, match=r"sources\.yml: cannot be read"):
        CliRunner().invoke(app, ["sources", "check", "--home", str(home)], catch_exceptions=False)
