"""Databases and homes for this folder's tests."""

from chain_world import world
from database_fixtures import database_url, postgres_server
from database_fixtures import register_marker as pytest_configure

__all__ = ["database_url", "postgres_server", "pytest_configure", "world"]
