"""The world that runs on many machines start from."""

from chain_world import world

__all__ = ["world"]
