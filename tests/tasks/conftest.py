"""The small world for this folder's tests."""

from chain_world import here, home, world

__all__ = ["here", "home", "world"]
