"""With a setting, every table of users has the person of each row."""

import duckdb
import pyarrow as pa
import pytest
from support.identity_desk import IdentityDesk, before, phone

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.sql_shell.catalog import Catalog
from usergrowth_dagster.sql_shell.database import write_database
from usergrowth_dagster.sql_shell.shell import SqlShell
from usergrowth_dagster.sql_shell.versions import Versions


def rows(shell: SqlShell, sql: str) -> list[dict[str, object]]:
    (statement,) = shell.statements(sql)
    return list(shell.run(statement, lambda result: result.read().read_all().to_pylist()))


def test_each_table_of_users_has_the_person(desk: IdentityDesk) -> None:
    """Figures by person that count one twice, lose a user without a person, or are of persons of
    another date; a table without users that is changed; a setting that nobody set."""
    desk.land([("a", "phone", phone(1)), ("b", "phone", phone(1))], before(2))
    desk.run(before(1))
    desk.land([("c", "phone", phone(1))], before(1))
    desk.run()
    table = pa.table(
        {"ds": [before(3)] * 4, "user_id": ["a", "b", "c", "d"], "spend": [1.0, 2.0, 4.0, 8.0]}
    )
    desk.project.warehouse.replace("spends", table, days=[before(3)])
    places = pa.table({"ds": [before(3)], "place": ["Oslo"]})
    desk.project.warehouse.replace("places", places, days=[before(3)])
    sql = "select one_id, sum(spend) as spend from spends group by one_id order by spend"
    alone = SqlShell(Project(load_settings(desk.home)), Versions())
    with pytest.raises(UserError, match="one_id"):
        rows(alone, sql)
    assert [column.name for column in alone.describe("spends")] == ["ds", "user_id", "spend"]

    project = Project(load_settings(desk.home, tables_by="one_id"))
    shell = SqlShell(project, Versions())
    person = desk.one_ids()["a"]
    assert rows(shell, sql) == [
        {"one_id": person, "spend": 7.0},
        {"one_id": "d", "spend": 8.0},
    ]
    assert rows(shell, "select count(*) as n from spends") == [{"n": 4}]
    named = {column.name for column in shell.describe("places")}
    assert named == {"ds", "place"}
    assert [column.name for column in shell.describe("one_id")].count("one_id") == 1

    path = desk.home / "tables.duckdb"
    write_database(Catalog(project, Versions()), path)
    with duckdb.connect(str(path), read_only=True) as connection:
        spent = connection.execute(sql).fetchall()
        views = {
            name
            for (name,) in connection.execute(
                "select view_name from duckdb_views() where not internal"
            ).fetchall()
        }
    assert spent == [(person, 7.0), ("d", 8.0)]
    assert views == {
        "spends",
        "places",
        *(n for n in project.warehouse.tables() if n not in ("spends", "places")),
    }
