"""The small world for this folder's tests."""

from chain_world import here, world

__all__ = ["here", "world"]
