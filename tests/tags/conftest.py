"""Fixtures of the tests of tags."""

from chain_world import world

__all__ = ["world"]
