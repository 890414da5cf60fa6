"""Scores of users from the features in the tables."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.serve.scoring.exchange import Refusal, plain
from usergrowth_dagster.serve.scoring.services import Served
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.relation import Relation, bind_days

if TYPE_CHECKING:
    from contextlib import ExitStack

USERS, PAIRS = "user_features", "user_item_features"
STALE_DAYS = 1
"""Days that the newest features may be old before an answer says so."""


@dataclass(frozen=True)
class ByUser:
    """Scores by user id, of those whom the tables know.

    Attributes:
        scores: null where the model gives no number.
        as_of: the day of the features.
        stale: whether newer ones should be there.
    """

    scores: Mapping[str, float | None]
    as_of: date
    stale: bool


class StoredFeatures:
    """The newest features of a home; one query at a time, each on the newest day that is there.

    Args:
        project: the home.
        stack: closes the engine.
    """

    def __init__(self, project: Project, stack: "ExitStack") -> None:
        self._project = project
        self._lock = threading.Lock()
        self._engine: Engine = stack.enter_context(open_engine(project.settings, 0.25))
        self._bound: dict[str, Relation] = {}
        self._day: date | None = None
        self._state: tuple[int | None, int | None, date] | None = None

    def score(self, served: Served, users: Sequence[str], item: str | None, today: date) -> ByUser:
        """Scores of users, and for an item where one is named.

        Raises:
            Refusal: no features of a day up to today are in the tables.
            UserError: the features are not those of the version's training.
        """
        import pyarrow as pa

        asked = pa.table({"user_id": pa.array([*set(users)], pa.string())})
        with self._lock:
            day = self._bind(today)
            self._engine.connection.register("asked", asked)
            read = self._engine.connection.sql(self._asked(served, item))
            names, lines = read.columns, read.fetchall()
        rows = [dict(zip(names, line, strict=True)) for line in lines]
        try:
            flat = served.scorer.reader.read(rows, extra=True)
        except UserError as error:  # of the tables, and not of the caller
            raise UserError(str(error), code="model.none_usable") from None
        scores = plain(served.scorer.score(flat))
        known = dict(zip((row["user_id"] for row in rows), scores, strict=True))
        return ByUser(known, day, (today - day).days > STALE_DAYS)

    def _bind(self, today: date) -> date:
        """Bind the newest day's files, unless they are bound.

        A day's features may be there before the day has come.
        """
        warehouse = self._project.warehouse
        state = (warehouse.version(USERS), warehouse.version(PAIRS), today)
        if self._day is None or state != self._state:
            known = warehouse.days(USERS) if warehouse.exists(USERS) else []
            days = [day for day in known if day <= today]
            if not days:
                raise Refusal(503, "the tables have no features yet", after=60)
            graph, day = load_graph(), max(days)
            self._bound = {
                table: bind_days(self._engine, warehouse, table, [day], graph.types(table))
                for table in (USERS, PAIRS)
            }
            self._state, self._day = state, day
        return self._day

    def _asked(self, served: Served, item: str | None) -> str:
        """The rows of the users that are asked for, with what the version's question needs."""
        rows = f"select f.* from {self._bound[USERS]} as f semi join asked using (user_id)"
        if not served.pairs:
            return rows
        named = literal(item or "")
        pairs = f"select * exclude (ds, item_id) from {self._bound[PAIRS]} where item_id = {named}"
        return (
            f"select u.*, {named} as item_id, x.* exclude (user_id) from ({rows}) as u "
            f"left join ({pairs}) as x using (user_id)"
        )
