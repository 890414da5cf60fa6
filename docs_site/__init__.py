"""Builds the reference part of the documentation from the code, each time the site is built."""
