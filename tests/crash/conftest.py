"""Databases for this folder's tests."""

from database_fixtures import database_url, other_database_url, postgres_server

__all__ = ["database_url", "other_database_url", "postgres_server"]
