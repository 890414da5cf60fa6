"""Exports that are known: one YAML file each, which describes how its rows become landing rows."""
