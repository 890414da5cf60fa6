"""Databases and a desk for this folder's tests."""

from database_fixtures import database_url, postgres_server
from database_fixtures import register_marker as pytest_configure
from support.dispatch_desk import desk

__all__ = ["database_url", "desk", "postgres_server", "pytest_configure"]
