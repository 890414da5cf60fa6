"""Data from where it lives: the file sources.yml, and what it lands as landing files."""
