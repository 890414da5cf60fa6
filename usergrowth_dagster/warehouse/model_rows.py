"""What makes the rows of a model: an engine, given the days of the tables that the model reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from usergrowth_dagster.warehouse.engine import Engine

OUTPUT = "_output"
"""The table that holds a model's new rows, before they are tested and published."""


@dataclass(frozen=True)
class TableDays:
    """Some days of a table, as it was at one version.

    Attributes:
        table: its name.
        version: its Delta version; None for a table that was never written.
        landed: data files of all its days at that version.
        wanted: the days that are read, all of them landed.
    """

    table: str
    version: int | None
    landed: Mapping[date, Sequence[str]]
    wanted: frozenset[date]

    @property
    def files(self) -> list[str]:
        """The data files of the days that are read."""
        return [name for day in sorted(self.wanted) for name in self.landed[day]]


@dataclass(frozen=True)
class ModelInputs:
    """All that a model reads for some output days.

    Attributes:
        days: the output days, in order.
        settings: the run settings by name.
        tables: the tables that are read directly, by name.
        monthly: the table of each monthly view that is read, by the view's name.
    """

    days: Sequence[date]
    settings: Mapping[str, int]
    tables: Mapping[str, TableDays]
    monthly: Mapping[str, TableDays]


class ModelRows(Protocol):
    """Makes rows of models. All engines make equal rows, so no version knows which one did."""

    def make(self, engine: Engine, model: str, inputs: ModelInputs) -> None:
        """Make the table :data:`OUTPUT`, with the declared columns, in a DuckDB engine.

        There the rows are tested, and from there they stream into the model's table.

        Args:
            engine: fresh; the table is made in it.
            model: a model that is a table.
            inputs: what it reads.

        Raises:
            UserError: the engine cannot be reached, or cannot run the model.
        """
