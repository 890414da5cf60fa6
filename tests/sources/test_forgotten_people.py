"""People who were forgotten are in nothing that a source has written or pulled, nor come back."""

from pathlib import Path

import duckdb
import pytest
from support.database_desk import DatabaseDesk, make_orders, order

from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.people.forget import forget
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.sources.databases import parts as parts_module
from usergrowth_dagster.sources.land import SourceLanding
from usergrowth_dagster.views.sources import land_sources

BY_CHANGE = "table: orders\ncursor: changed\nkey: id"


def land(project: Project) -> SourceLanding:
    """Land the home's one source."""
    landed = land_sources(project)
    assert not landed.failures
    (landing,) = landed.landings
    return landing


def users_in(folder: Path, column: str) -> set[str | None]:
    """The users in all Parquet files below a folder."""
    if not list(folder.rglob("*.parquet")):
        return set()
    files = f"read_parquet('{folder}/**/*.parquet', union_by_name = true)"
    return {user for (user,) in duckdb.sql(f"select distinct {column} from {files}").fetchall()}


def test_rows_of_files_are_erased_and_stay_away(tmp_path: Path) -> None:
    """Guards against a person who is in our landing files after all, or who comes back with them."""
    home = tmp_path / "home"
    settings = make_home(home, {"start_date": "2024-03-01", "today": "2024-03-20"})
    (home / "sources.yml").write_text(
        "sources:\n  - {name: log, fills: behavior, from: log*.csv, day: {time: at},\n"
        "     columns: {user_id: who, behavior: \"'visit'\"}}\n"
    )
    (home / "log1.csv").write_text(
        "who,at\nann,2024-03-01\nbob,2024-03-01\nann,2024-03-02\n,2024-03-02\n"
    )
    project = Project(settings)
    land(project)
    landing = Path(settings.landing_root) / "behavior"
    assert users_in(landing, "user_id") == {"ann", "bob", None}
    assert forget(project, "ann", actor="eve", dry_run=True).sources == 2
    assert users_in(landing, "user_id") == {"ann", "bob", None}
    assert forget(project, "ann", actor="eve").sources == 2
    assert users_in(landing, "user_id") == {"bob", None}
    assert land(project).landed == ()
    (home / "log2.csv").write_text("who,at\nann,2024-03-02\ncat,2024-03-02\nann,2024-03-03\n")
    again = land(project)
    assert [day.day for day in again.landed] == [2, 3]
    assert (again.rows, again.forgotten, again.duplicates) == (2, 3, 0)
    assert "3 rows of forgotten persons left out" in again.notes()
    assert users_in(landing, "user_id") == {"bob", "cat", None}
    assert forget(project, "ann", actor="eve").sources == 0


@pytest.mark.parametrize("chunk", [2, 500])
def test_rows_of_a_database_are_erased_and_stay_away(
    desk: DatabaseDesk, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """Guards against a person who stays in what was pulled, or comes back with the next pull."""
    monkeypatch.setattr(parts_module, "PART_ROWS", chunk)
    make_home(desk.home, {"start_date": "2024-03-01", "today": "2024-03-20", "timezone": "UTC"})
    make_orders(desk.server)
    for number in range(1, 7):
        order(desk.server, number, "ann" if number % 2 else f"u{number}", f"2024-03-0{number}")
    desk.write(BY_CHANGE)
    project = Project(load_settings(desk.home))
    land(project)
    assert users_in(desk.parts, "who") == {"ann", "u2", "u4", "u6"}
    assert forget(project, "ann", actor="eve", dry_run=True).sources == 6
    assert users_in(desk.parts, "who") == {"ann", "u2", "u4", "u6"}
    assert forget(project, "ann", actor="eve").sources == 6
    assert users_in(desk.parts, "who") == {"u2", "u4", "u6"}
    assert set(desk.users()) == {"u2", "u4", "u6"}
    land(project)
    assert land(project).landed == ()
    order(desk.server, 7, "ann", "2024-03-08")
    order(desk.server, 8, "u8", "2024-03-09")
    land(project)
    assert users_in(desk.parts, "who") == {"u2", "u4", "u6", "u8"}
    assert set(desk.users()) == {"u2", "u4", "u6", "u8"}
    order(desk.server, 9, "ann", "2024-03-10")  # the newest row is hers
    for _ in range(2):
        land(project)
        assert users_in(desk.parts, "who") == {"u2", "u4", "u6", "u8"}
        assert set(desk.users()) == {"u2", "u4", "u6", "u8"}
    assert land(project).landed == ()


def test_what_nobody_can_read_any_more_is_named(tmp_path: Path) -> None:
    """Guards against rows of a source that was taken out of the file, which nobody erases."""
    home = tmp_path / "home"
    project = Project(make_home(home, {"start_date": "2024-03-01", "today": "2024-03-20"}))
    (home / "sources" / "old").mkdir(parents=True)
    (failure,) = forget(project, "ann", actor="eve").failures
    assert "sources/old" in failure and "remove the folder" in failure
    (home / "sources.yml").write_text("sources: 7\n")
    (failure,) = forget(project, "ann", actor="eve").failures
    assert "sources.yml" in failure
