"""What came after a decision: one row for each of its rows, by plain SQL.

The window begins on d + 1 for every row alike, texted or not (intention to treat), d being the
row's execution date, and ends on d + return_days; where the same day counts it begins on d, and
holds in both arms alike what came before the texts. Covariates look at [d - pre_days, d - 1] only,
which no text of this task can have changed. Behavior is counted as far as it has landed and is
asked for.

A *return* is a behavior of the kinds that count, on the row's item where that is asked. The
*amount* is all that the user's behaviors of the window bring, of whatever kind and item: a text
that only moves a purchase from one item to another has earned nothing.

An arm's own texts come from the ledger. They are joined to every row of a user who was chosen, so
that a control user who was texted after all shows.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta

from usergrowth_dagster.effects.texts import LedgerTexts
from usergrowth_dagster.quoting import literal, literals
from usergrowth_dagster.ranks import UPLIFT
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_query

TABLE = "outcomes"
OUTCOME_COLUMNS = {
    "ds": ("DATE", "execution date of the decision"),
    "task_id": ("VARCHAR", "the task"),
    "campaign": ("VARCHAR", "its campaign"),
    "row": ("BIGINT", "place of the row in the upload"),
    "user_id": ("VARCHAR", "the user"),
    "item_id": ("VARCHAR", "the item that the message is about"),
    "arm": ("VARCHAR", "treatment, control, or none"),
    "outcome": ("VARCHAR", "selected, holdout, explored, or the reason why the row was not chosen"),
    "propensity": ("DOUBLE", "chance of the row's arm, as it was drawn"),
    "holdout": ("VARCHAR", "which control group the row was held out by"),
    "stratum": ("VARCHAR", "stratum that the holdout was drawn in"),
    "variant": ("VARCHAR", "which of the campaign's texts"),
    "variant_propensity": ("DOUBLE", "chance of that text"),
    "score": ("DOUBLE", "probability that was decided by"),
    UPLIFT: ("DOUBLE", "what the text was predicted to add to the chance of a return"),
    "planned_cost": ("DOUBLE", "price of the row's text, sent or not"),
    "decile": ("INTEGER", "tenth by score of selected and holdout, 1 the highest; else null"),
    "returned": ("BOOLEAN", "whether the user returned in the window, as far as it is counted"),
    "days_to_return": ("INTEGER", "days from the execution date to the first return"),
    "amount": ("DOUBLE", "sum of the campaign's amount in the window, before the margin"),
    "pre_events": ("DOUBLE", "events in the days before the execution date"),
    "pre_active_days": ("DOUBLE", "days with an event among them"),
    "pre_amount": ("DOUBLE", "sum of the campaign's amount in them"),
    "message_state": ("VARCHAR", "how far the row's text got; null when the ledger has none"),
    "message_reason": ("VARCHAR", "why it got no further"),
    "messages": ("BIGINT", "billed segments that went out"),
    "cost": ("DOUBLE", "their price, in currency"),
    "sent": ("BOOLEAN", "whether a text went out, or may have"),
    "delivered": ("BOOLEAN", "whether the provider says that one arrived"),
    "clicked": ("BOOLEAN", "whether a person called the short link of the row's text"),
    "seen_by_bots": ("BOOLEAN", "whether a program that looks at links called it"),
    "other_texts": ("BIGINT", "texts of other tasks from the execution date to the window's end"),
    "window_last": ("DATE", "last day of the window"),
    "counted_until": ("DATE", "last day of behavior that is counted; null: none has landed"),
    "landed_days": ("INTEGER", "days of the counted window with landed behavior"),
}
"""Name → DuckDB type and meaning of the columns of the table."""


@dataclass(frozen=True)
class Window:
    """Which behavior counts, when, and as what.

    Attributes:
        execution_date: d; of rows with several dates, the first.
        return_days: days from it to the window's last.
        behaviors: kinds that count as a return; empty: any.
        on_item: only behaviors on the row's item count as a return.
        amount: key of the amounts that are summed; None: none are.
        pre_days: days before d that the covariates look at.
        until: last day of behavior to count; None: nothing has landed yet.
        same_day: whether the execution date is the window's first day, not the day after it.
        newest_date: of rows whose windows are those of their own dates, the last date; None: all
            rows share one window.
    """

    execution_date: date
    return_days: int
    behaviors: tuple[str, ...] = ()
    on_item: bool = False
    amount: str | None = None
    pre_days: int = 28
    until: date | None = None
    same_day: bool = False
    newest_date: date | None = field(default=None, repr=False)  # what outcomes on record name

    @property
    def first(self) -> date:
        """First day of the window."""
        return self.execution_date + timedelta(days=0 if self.same_day else 1)

    @property
    def last(self) -> date:
        """Last day of the window."""
        newest = self.newest_date or self.execution_date
        return newest + timedelta(days=self.return_days)

    @property
    def counted(self) -> date:
        """Last day that is counted; the day before the window when none is."""
        before = self.first - timedelta(days=1)
        return before if self.until is None else min(self.last, self.until)

    @property
    def counted_days(self) -> int:
        """Days of the window until the last that is counted."""
        return (self.counted - self.first).days + 1

    @property
    def pre_first(self) -> date:
        """First day of the covariates."""
        return self.execution_date - timedelta(days=self.pre_days)

    def days(self, landed: Iterable[date]) -> list[date]:
        """The landed days whose behavior is read."""
        return [day for day in landed if self.pre_first <= day <= self.counted]


def day(value: date) -> str:
    """An SQL date literal."""
    return f"date '{value.isoformat()}'"


def bind_outcomes(
    engine: Engine,
    window: Window,
    landed_days: int,
    *,
    decisions: Relation,
    behavior: Relation,
    texts: LedgerTexts,
) -> Relation:
    """Work out what came after each row of some decisions.

    Args:
        engine: holds the relations.
        window: what counts.
        landed_days: days of the window that have landed.
        decisions: one task's, or one row a user of several.
        behavior: rows of ``stg_behavior``, days of the window and of the covariates.
        texts: what the ledger says of the people.

    Returns:
        :data:`OUTCOME_COLUMNS`, one row for each row of the decisions.
    """
    made = {
        "outcome": "d.outcome",
        "planned_cost": "d.cost",
        "decile": "t.decile",
        "returned": "f.days_to_return is not null",
        "days_to_return": "f.days_to_return",
        "amount": "coalesce(f.amount, 0)",
        "pre_events": "coalesce(f.pre_events, 0)",
        "pre_active_days": "coalesce(f.pre_active_days, 0)",
        "pre_amount": "coalesce(f.pre_amount, 0)",
        "message_state": "m.state",
        "message_reason": "m.reason",
        "messages": "coalesce(m.messages, 0)",
        "cost": "coalesce(m.cost, 0)",
        "sent": "coalesce(m.sent, false)",
        "delivered": "coalesce(m.delivered, false)",
        "clicked": "coalesce(m.clicked, false)",
        "seen_by_bots": "coalesce(m.seen_by_bots, false)",
        "other_texts": "coalesce(o.texts, 0)",
        "window_last": day(window.last),
        "counted_until": "null" if window.until is None else day(window.counted),
        "landed_days": str(landed_days),
    }
    columns = ",\n    ".join(
        f'cast({made.get(column, f"""d."{column}" """)} as {kind}) as "{column}"'
        for column, (kind, _) in OUTCOME_COLUMNS.items()
    )
    sql = f"""{_ctes(window, decisions, behavior)}
select {columns}
from {decisions} as d
left join tenths as t on t."row" = d."row"
left join followed as f on f."row" = d."row"
left join {texts.own} as m on m.user_id = d.user_id and d.arm <> 'none'
left join {texts.others} as o on o.user_id = d.user_id and d.arm <> 'none'"""
    return bind_query(engine, TABLE, sql, of=[decisions, behavior], keep=True)


def _ctes(window: Window, decisions: Relation, behavior: Relation) -> str:
    since = "b.ds >= d.ds" if window.same_day else "b.ds > d.ds"
    within = f"{since} and b.ds <= {day(window.counted)}"
    if window.newest_date is not None:
        within += f" and b.ds <= d.ds + {window.return_days}"
    before = f"b.ds < d.ds and b.ds >= d.ds - {window.pre_days}"
    counts = [within]
    if window.behaviors:
        counts.append(f"b.behavior in ({literals(window.behaviors)})")
    if window.on_item:
        counts.append("b.item_id = d.item_id")
    amount = "0" if window.amount is None else f"coalesce(b.amounts[{literal(window.amount)}], 0)"
    return f"""with followed as (
    select d."row",
        min(date_diff('day', d.ds, b.ds)) filter (where {" and ".join(counts)}) as days_to_return,
        sum({amount}) filter (where {within}) as amount,
        sum(b.events) filter (where {before}) as pre_events,
        count(distinct b.ds) filter (where {before}) as pre_active_days,
        sum({amount}) filter (where {before}) as pre_amount
    from {decisions} as d inner join {behavior} as b on b.user_id = d.user_id
    group by d."row"
),
tenths as (
    select "row", ntile(10) over (order by score desc, "row") as decile
    from {decisions} where outcome in ('selected', 'holdout')
)"""
