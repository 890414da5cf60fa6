"""Homes: making one, and checking it and its machine."""
