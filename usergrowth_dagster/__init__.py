"""Decide every day whom to text, send the texts safely, and prove what they brought back."""

__version__ = "0.1.0"
