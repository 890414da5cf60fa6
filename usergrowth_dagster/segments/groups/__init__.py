"""Segments whose people come from a source: a text, a file, a table, or an algorithm."""
