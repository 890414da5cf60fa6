"""Fixtures of databases as sources: one server of each kind for all tests."""

from support.database_desk import desk, mariadb_source, postgres_source, server

__all__ = ["desk", "mariadb_source", "postgres_source", "server"]
