"""A home whose source is a database, and the rows that it lands."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from support.source_databases import PASSWORD, Server, running_mariadb, running_postgres
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.sources.definition import Source, read_sources
from usergrowth_dagster.sources.land import SourceLanding, land_source

DAY = date(2024, 3, 1)
TODAY = date(2024, 3, 20)

ORDERS = """
sources:
  - name: orders
    fills: behavior
    database:
      url: {url}
      password_env: SHOP_PASSWORD
{keys}
    day: {{time: at}}
    columns: {{user_id: who, behavior: "'buy'", item_id: item}}
    num: {{amount: price}}
"""


@pytest.fixture(scope="session")
def postgres_source() -> Iterator[Server]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_source() -> Iterator[Server]:
    with running_mariadb() as server:
        yield server


@pytest.fixture(
    params=[
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("mariadb", marks=pytest.mark.mariadb),
    ]
)
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server with a new database; the password of its reader is in SHOP_PASSWORD."""
    server: Server = request.getfixturevalue(f"{request.param}_source")
    server.new_database()
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    return server


class DatabaseDesk:
    """A home whose business clock stands on a day, with one source."""

    def __init__(self, home: Path, server: Server) -> None:
        home.mkdir(exist_ok=True)
        self.home = home
        self.server = server
        self.settings = load_settings(home, today=TODAY, timezone="UTC", memory_limit="1GB")
        self.landing = Storage(self.settings.landing_root)
        self.state = Storage(self.settings.storage_root)

    def write(self, keys: str, text: str = ORDERS, url: str = "") -> Source:
        """Write sources.yml; the keys are those of the database, a line each."""
        lines = "\n".join(f"      {line.strip()}" for line in keys.strip().splitlines())
        content = text.format(url=url or self.server.url(), keys=lines)
        (self.home / "sources.yml").write_text(content)
        (source,) = read_sources(self.home / "sources.yml")
        return source

    def land(self, source: Source, *, reread: bool = False) -> SourceLanding:
        return land_source(
            self.settings, self.landing, self.state, source, self.home, reread=reread
        )

    def landed(self) -> dict[str, list[tuple[Any, ...]]]:
        """By day, user, item and numbers of the rows that have landed."""
        rows = {}
        for path in sorted(Path(self.settings.landing_root).rglob("source-*.parquet")):
            table = pq.read_table(path, partitioning=None)
            rows[path.parent.name.removeprefix("ds=")] = sorted(
                (row["user_id"], row["item_id"], row["kvs_num"]) for row in table.to_pylist()
            )
        return rows

    def users(self) -> list[str]:
        """The users of all rows that have landed, sorted; one that has two rows comes twice."""
        return sorted(user for rows in self.landed().values() for user, _, _ in rows)

    @property
    def parts(self) -> Path:
        return self.home / "sources" / "orders"


@pytest.fixture
def desk(tmp_path: Path, server: Server) -> DatabaseDesk:
    return DatabaseDesk(tmp_path / "home", server)


def make_orders(server: Server) -> None:
    """The table ``orders``, empty: times have microseconds and no zone."""
    time = "timestamp" if server.kind == "postgresql" else "datetime(6)"
    server.run(
        f"create table orders (id bigint primary key, who varchar(20), item varchar(20), "
        f"price decimal(10,2), at {time}, changed {time})"
    )


def order(
    server: Server, number: int, who: str, at: str = "2024-03-01 08:00:00", **more: Any
) -> None:
    """Insert one order."""
    values = {"price": "2.50", "changed": at, "item": "i1"} | more
    server.run(
        f"insert into orders values ({number}, '{who}', '{values['item']}', {values['price']}, "
        f"'{at}', '{values['changed']}')"
    )
