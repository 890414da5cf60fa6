"""Interactions and the items of expressions as arrays, cut at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.affinity.csv_file import bad_file
from usergrowth_dagster.affinity.expression import Expression, values_of
from usergrowth_dagster.affinity.files import ITEMS, quoted_field
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int32]
    Bools = npt.NDArray[np.bool_]

_MOST_VALUES = 300
"""Values of the fields that take part as attributes, the commonest first."""


@dataclass(frozen=True)
class Log:
    """Interactions in the order of time.

    Attributes:
        user: number of the user, from 0; an entry for each interaction, like ``item`` and ``time``.
        item: number of the item.
        time: unix seconds.
        users: users in all, those of later interactions too.
        items: items in all.
        attributes: sparse, items x attribute values, 1 where an item has the value.
    """

    user: "Ints"
    item: "Ints"
    time: "Floats"
    users: int
    items: int
    attributes: Any

    def before(self, moment: float) -> "Log":
        """The interactions before a moment."""
        import numpy as np

        end = int(np.searchsorted(self.time, moment, side="left"))
        return Log(
            self.user[:end],
            self.item[:end],
            self.time[:end],
            self.users,
            self.items,
            self.attributes,
        )

    def between(self, first: float, last: float) -> "Log":
        """The interactions in [first, last)."""
        import numpy as np

        start = int(np.searchsorted(self.time, first, side="left"))
        part = self.before(last)
        return Log(
            part.user[start:],
            part.item[start:],
            part.time[start:],
            self.users,
            self.items,
            self.attributes,
        )


def read_log(engine: Engine, fields: Mapping[str, str], used: Sequence[str]) -> Log:
    """The interactions of an engine's table ``events``.

    Args:
        engine: with the tables of :func:`files.load_folder`.
        fields: the column of ``items`` by field.
        used: the fields of the expressions, whose values are the attributes.
    """
    import numpy as np

    got = engine.connection.execute("select u, i, t from events order by t, u, i").fetchnumpy()
    users, items = engine.rows(
        "select (select count(*) from people), (select count(*) from things)"
    )[0]
    return Log(
        np.asarray(got["u"], dtype=np.int32),
        np.asarray(got["i"], dtype=np.int32),
        np.asarray(got["t"], dtype=np.float64),
        users,
        items,
        _attributes(engine, fields, used, items),
    )


def _attributes(engine: Engine, fields: Mapping[str, str], used: Sequence[str], items: int) -> Any:
    """Sparse items x values of the fields that expressions name."""
    import numpy as np
    from scipy import sparse

    parts = " union all ".join(
        f"select i, {number} as field, unnest({values_of(quoted_field(fields, field))}) as value "
        "from items where i is not null"
        for number, field in enumerate(dict.fromkeys(name.casefold() for name in used))
    )
    got = engine.connection.execute(
        f"""
        with pairs as (select distinct * from ({parts}) where value <> ''),
        kept as (
            select field, value, row_number() over (order by count(*) desc, field, value) - 1 as a
            from pairs group by field, value qualify a < {_MOST_VALUES}
        )
        select i, a from pairs join kept using (field, value) order by i, a
        """
    ).fetchnumpy()
    rows, columns = np.asarray(got["i"]), np.asarray(got["a"])
    width = int(columns.max()) + 1 if len(columns) else 0
    ones = np.ones(len(rows))
    return sparse.csr_matrix((ones, (rows, columns)), shape=(items, width))


def items_of(
    engine: Engine, fields: Mapping[str, str], expression: Expression, place: str
) -> "Bools":
    """Which items an expression takes, by number.

    Args:
        engine: with the tables of :func:`files.load_folder`.
        fields: the column of ``items`` by field.
        expression: the expression.
        place: the job's file, for the error sentence.

    Raises:
        UserError: items.csv has no such field, or no item matches.
    """
    import numpy as np

    for field in expression.fields:
        if field.casefold() not in fields:
            raise UserError(
                f"{place}: {expression.text!r}: {ITEMS} has no column {field}; it has "
                f"{', '.join(name.upper() for name in fields)}",
                code="affinity.invalid",
            )
    condition = expression.condition(fields)
    total, matching = engine.rows(f"select count(*), count_if({condition}) from items")[0]
    if not matching:
        raise UserError(
            f"{place}: {expression.text!r} takes none of {total:,} items"
            + _nearest(engine, fields, expression),
            code="affinity.invalid",
        )
    if not total:
        raise bad_file(f"{ITEMS}: it holds no item")
    found = engine.connection.execute(
        f"select i from items where i is not null and {condition}"
    ).fetchnumpy()["i"]
    taken = np.zeros(engine.value("select count(*) from things"), dtype=np.bool_)
    taken[np.asarray(found)] = True
    return taken


def _nearest(engine: Engine, fields: Mapping[str, str], expression: Expression) -> str:
    """What the fields hold instead, as the end of a sentence."""
    import difflib

    for part in expression.parts:
        column = quoted_field(fields, part.field)
        known = [
            str(row[0])
            for row in engine.rows(
                f"select value from (select unnest({values_of(column)}) as value from items) "
                "where value <> '' group by value order by count(*) desc, value limit 1000"
            )
        ]
        by_case = {value.casefold(): value for value in known}
        for value in part.values:
            if value not in known:
                close = difflib.get_close_matches(value.casefold(), by_case, n=1)
                if close:
                    return f"; did you mean {by_case[close[0]]!r}?"
                return f"; {part.field} has {', '.join(map(repr, known[:5]))} …"
    return ""
