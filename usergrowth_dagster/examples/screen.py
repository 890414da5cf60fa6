"""Where the examples show what they do; whoever runs them hands it in."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

Say = Callable[[str], None]
"""Prints a line."""

ShowTable = Callable[[str, Sequence[str], Sequence[Sequence[Any]]], None]
"""Prints a table: its title, its header, its lines."""


@dataclass(frozen=True)
class Screen:
    """A place for people's eyes: prints lines and tables.

    ``progress`` shows how far the runs are that are executed within it.
    """

    say: Say
    table: ShowTable
    progress: Callable[[], AbstractContextManager[None]]
