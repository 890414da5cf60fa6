"""Databases and the ledger's rows for this folder's tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "messaging"))

from database_fixtures import database_url, postgres_server
from database_fixtures import register_marker as pytest_configure

__all__ = ["database_url", "postgres_server", "pytest_configure"]
