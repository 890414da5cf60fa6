"""Databases, and the small world, for this folder's tests."""

from chain_world import here, world
from database_fixtures import database_url, other_database_url, postgres_server

__all__ = ["database_url", "here", "other_database_url", "postgres_server", "world"]
