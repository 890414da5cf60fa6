"""The small world for this folder's tests, and a database that a log is in."""

from chain_world import here, world
from database_fixtures import postgres_server
from support.database_desk import postgres_source

__all__ = ["here", "postgres_server", "postgres_source", "world"]
