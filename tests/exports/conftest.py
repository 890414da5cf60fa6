"""Fixtures of the tests of exports."""

import os
from pathlib import Path

import pytest
from support.database_desk import mariadb_source, postgres_source, server
from support.export_desk import ExportDesk
from support.source_databases import Server

__all__ = ["desk", "mariadb_source", "postgres_source", "server", "target"]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExportDesk:
    """A fresh home, whatever the environment says."""
    for name in [key for key in os.environ if key.startswith("USERGROWTH_")]:
        monkeypatch.delenv(name)
    return ExportDesk(tmp_path / "home")


@pytest.fixture
def target(server: Server) -> Server:
    """A server with a new database, whose user ``reader`` may write."""
    if server.kind == "postgresql":
        server.run(
            "grant all on schema public to reader",
            "alter default privileges grant all on tables to reader",
        )
    else:
        server.run(f"grant all on {server.database}.* to reader@'127.0.0.1'")
    return server
