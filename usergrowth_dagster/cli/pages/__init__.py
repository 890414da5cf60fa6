"""Longer pages of the command line: each prints one view."""
