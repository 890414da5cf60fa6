"""A synthetic world that is lived on, some days at a time, and answers texts from outside.

The world of :mod:`.synthetic` knows its own texts from the start. Here a campaign texts whom it
likes: up to its first text the world is the one without it, then each text is answered by the same
mechanism and the same luck. So two policies can be run beside each other on the same users, and
what each text adds to the chance of a return is known exactly, whether it was sent or not.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.examples.worlds._landing import Progress, write_days
from usergrowth_dagster.examples.worlds._population import Array, Users, draw_users
from usergrowth_dagster.examples.worlds._simulation import COPIES, Asked, Calendar, Lives, live
from usergrowth_dagster.examples.worlds._synthetic_rows import (
    USER_ID,
    bind,
    bind_items,
    touches_table,
    truth_columns,
)
from usergrowth_dagster.examples.worlds.synthetic import SyntheticWorld, connect
from usergrowth_dagster.quoting import literals

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

ASKED_COLUMNS = ("user_id", "ds", "item_id", "copy")
"""Columns of texts: user, day, item, and the copy ``short`` or ``long``."""

_CHUNK = 50_000  # users computed at a time


class LivingWorld:
    """A synthetic world, and where it lands.

    Args:
        world: its seed, size and longest life; ``texts_until`` should lie before the first text
            from outside by ``return_days`` at least, since nobody has two texts in one window.
        landing: root of the landing files.
    """

    def __init__(self, world: SyntheticWorld, landing: Storage) -> None:
        self.world = world
        self.landing = landing

    def live_on(
        self, texts: "pa.Table", first: date, last: date, progress: Progress | None = None
    ) -> dict[str, int]:
        """Land the days [first, last] of the world in which these texts were sent.

        Texts of ``first`` and later days are the future of the days before, which stay as they
        landed; a file that holds the same bytes already is left alone. The texts themselves are not
        landed: whoever sent them lands them.

        Args:
            texts: all texts up to ``last``, with the columns :data:`ASKED_COLUMNS`.
            first: first day to land; the items and the first users land on the eve of the world.
            last: last day to land, within the world.
            progress: called with ``users``, users done and users in all.

        Returns:
            Rows by landing table.

        Raises:
            UserError: a text that the world cannot answer.
        """
        world = self.world
        days = (max(0, world.day_of(first)), world.day_of(last) + 1)
        rows = {"user": 0, "item": 0, "behavior": 0, "operation": 0}
        snapshots = [day for day in world.snapshots() if first <= day <= last]
        with connect() as con:
            eve = world.start - timedelta(days=1)
            if first <= eve <= last:
                bind_items(con, world.seed, world.items, eve)
                rows["item"], _ = write_days(con, self.landing, "item", name=_NAME, order="n")
            for number, (users, lives) in enumerate(self._lives(con, texts, days[1])):
                bind(
                    con,
                    users,
                    lives,
                    seed=world.seed,
                    items=world.items,
                    start=world.start,
                    snapshots=snapshots,
                    price=world.message_price,
                    held_out=world.held_out_rows,
                    days=days,
                )
                name = _NAME.replace(".", f"-{number:04d}.")
                for table in ("user", "behavior", "operation"):
                    written, _ = write_days(con, self.landing, table, name=name, order="n, seq")
                    rows[table] += written
                if progress:
                    progress("users", int(users.index[-1]) + 1, world.users)
        return rows

    def seen(self, day: date, days: int) -> Array:
        """Numbers of the users with a session in the days before ``day``, had nobody texted them.

        Args:
            day: a day of the world.
            days: how many days before it count.
        """
        end = self.world.day_of(day)
        with connect() as con:
            active = [
                users.index[(lives.sessions[max(0, end - days) :] > 0).any(axis=0)]
                for users, lives in self._lives(con, no_texts(), end)
            ]
        return np.concatenate(active)

    def chances(self, asked: "pa.Table", texts: "pa.Table") -> "pa.Table":
        """What texts would do, exactly: in the world in which ``texts`` were sent.

        Args:
            asked: texts, sent or not, with the columns :data:`ASKED_COLUMNS`; those of a user
                must lie outside the windows of the texts that the user had on other days.
            texts: all that were sent; one that is also asked about keeps its answer.

        Returns:
            One row a question, as in the saved truth of :func:`.synthetic.write_landing`: user_id,
            ds, item_id, copy, state, treated, return_without, return_with, effect, cost, returned
            (what happened in the world with ``texts``; null where it ends before).

        Raises:
            UserError: a text that the world cannot answer.
        """
        import pyarrow as pa

        world = self.world
        last = max(_days(asked) + _days(texts), default=world.start)
        end = min(world.day_of(last) + world.return_days + 1, world.days)
        columns = truth_columns(world.start, world.message_price)
        parts = []
        with connect() as con:
            for users, lives in self._lives(con, texts, end, asked):
                assert lives.asked is not None
                con.register("_answers", touches_table(users, lives.asked))
                parts.append(
                    con.sql(
                        f"select a.* exclude (propensity) from (select {columns} from _answers) "
                        "as a join _asked as q using (user_id, ds, item_id, copy) "
                        "order by ds, user_id"
                    ).to_arrow_table()
                )
                con.unregister("_answers")
        return pa.concat_tables(parts)

    def _lives(
        self,
        con: "DuckDBPyConnection",
        texts: "pa.Table",
        end: int,
        asked: "pa.Table | None" = None,
    ) -> Iterator[tuple[Users, Lives]]:
        """Chunks of users and their lives up to the day ``end`` of the world."""
        world = self.world
        if not 0 < end <= world.days:
            raise UserError(
                f"synthetic world: it lives from {world.start} to {world.end}, not on "
                f"{world.start + timedelta(days=end - 1)}",
                code="command.invalid",
            )
        self._bind(con, texts, asked)
        first_day = world.start.timetuple().tm_yday
        calendar = Calendar(world.start.weekday(), first_day, end, world.fades_from)
        for first in range(0, world.users, _CHUNK):
            users = draw_users(world.seed, first, min(first + _CHUNK, world.users), world.days)
            try:
                lives = live(
                    users,
                    calendar,
                    world.items,
                    world.return_days,
                    asked=_chunk(con, users),
                    own_until=world.texts_until,
                    strength=world.strength,
                )
            except ValueError as error:
                raise UserError(f"synthetic world: {error}", code="command.invalid") from None
            yield users, lives

    def _bind(self, con: "DuckDBPyConnection", texts: "pa.Table", asked: "pa.Table | None") -> None:
        """Make ``_asked`` and ``_all``, the texts and questions in the world's own numbers."""
        columns = ", ".join(ASKED_COLUMNS)
        listed = literals(COPIES)
        con.register("_texts", texts)
        con.register("_questions", texts if asked is None else asked)
        con.execute(
            f"create or replace temp table _asked as select distinct {columns} from _questions"
        ).fetchall()
        con.execute(
            f"""
            create or replace temp table _all as
            select try_cast(substr(user_id, 2) as bigint) as n,
                ds - date '{self.world.start}' as day,
                try_cast(substr(item_id, 2) as bigint) as item,
                list_position([{listed}], copy) - 1 as copy, bool_or(texted) as texted,
                any_value(user_id) as user_id
            from (
                select {columns}, true as texted from _texts
                union all select {columns}, false from _asked
            )
            group by 1, 2, 3, 4
            """
        ).fetchall()
        con.unregister("_texts")
        con.unregister("_questions")
        ((wrong,),) = con.execute(
            f"select count(*) from _all where n is null or n not between 0 and {self.world.users}"
            f" - 1 or user_id <> {USER_ID} or item is null or item not between 0 and "
            f"{self.world.items} - 1 or copy is null or day is null"
        ).fetchall()
        if wrong:
            raise UserError(
                f"synthetic world: {wrong} texts are for users or items that it does not have, or "
                f"of a copy other than {' and '.join(COPIES)}",
                code="command.invalid",
            )


_NAME = "synthetic.csv"


def _days(texts: "pa.Table") -> list[date]:
    import pyarrow.compute as pc

    return [pc.max(texts.column("ds")).as_py()] if texts.num_rows else []


def _chunk(con: "DuckDBPyConnection", users: Users) -> Asked:
    """Texts and questions for a chunk of users, ordered by day and user."""
    first, last = int(users.index[0]), int(users.index[-1])
    columns = con.execute(
        f"select n - {first} as who, day, item, copy, texted from _all "
        f"where n between {first} and {last} order by day, n, item, copy"
    ).fetchnumpy()
    kinds = {name: np.asarray(columns[name]).astype(np.int64) for name in ("who", "day", "item")}
    return Asked(
        **kinds,
        copy=np.asarray(columns["copy"]).astype(np.int64),
        texted=np.asarray(columns["texted"]),
    )


def no_texts() -> "pa.Table":
    """Texts of a world in which nothing is sent."""
    import pyarrow as pa

    kinds = (pa.string(), pa.date32(), pa.string(), pa.string())
    layout = pa.schema(list(zip(ASKED_COLUMNS, kinds, strict=True)))
    return layout.empty_table()
