"""Fixtures of the tests of profiles."""

from chain_world import world
from support.browser import browser

__all__ = ["browser", "world"]
