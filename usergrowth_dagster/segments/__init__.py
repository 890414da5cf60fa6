"""Segments: people by conditions, as of an execution date, kept as frozen snapshots."""
