"""Databases of control records for this folder's tests."""

from database_fixtures import database_url, postgres_server

__all__ = ["database_url", "postgres_server"]
