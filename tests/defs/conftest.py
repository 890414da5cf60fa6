"""The small world for this folder's tests."""

from chain_world import here, world
from database_fixtures import postgres_server

__all__ = ["here", "postgres_server", "world"]
