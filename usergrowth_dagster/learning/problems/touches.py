"""What questions about touches share: the touch, and the behavior that counts as a return.

A row is a touch of a day d. A return is a behavior in ``[d + 1, d + return_days]``, and on d itself
with ``same_day``; features are as of d.
"""

from typing import Any, ClassVar

from usergrowth_dagster.learning.problems.base import Days, Problem
from usergrowth_dagster.quoting import literal


class TouchProblem(Problem):
    """A question about touches.

    Attributes:
        op_target: the kind of touch learned from; None = every kind.
        return_days: returned = a behavior in ``[d + 1, d + return_days]``; days.
        return_behaviors: the behavior kinds that count as a return; empty = any.
        return_on_item: only behaviors on the touched item count as a return.
        same_day: a behavior on d itself counts as a return too.
        beside_touches: what else of those days has to be landed, for an error.
    """

    by_touch = True
    pairs = True
    earlier: ClassVar = {"churn_days": 7}
    beside_touches: ClassVar[str] = ""

    op_target: str | None = None
    return_days: Days = 28
    return_behaviors: tuple[str, ...] = ()
    return_on_item: bool = False
    same_day: bool = False

    @property
    def horizon_days(self) -> int:
        return self.return_days + 1

    @property
    def reach_days(self) -> int:
        return self.return_days

    @property
    def label_settings(self) -> dict[str, object]:
        settings: dict[str, Any] = {
            "algorithm": self.name,
            "op_target": self.op_target,
            "return_behaviors": sorted(set(self.return_behaviors)),
            "return_days": self.return_days,
            "return_on_item": self.return_on_item,
        }
        # named only where it holds, so that the hash of every other label stays what it was
        return settings | ({"same_day": True} if self.same_day else {})

    def label_sql(self) -> str:
        on_item = "_on_item" if self.return_on_item else ""
        returns, kinds = f"days_to_return{on_item}", sorted(set(self.return_behaviors))
        if kinds:
            within = " or ".join(f"{returns}[{literal(k)}] <= {self.return_days}" for k in kinds)
            later = f"coalesce({within}, false)"
        else:
            first = f"coalesce(list_min(map_values({returns})), {self.return_days + 1})"
            later = f"{first} <= {self.return_days}"
        if not self.same_day:
            return later
        seen = f"coalesce(same_day{on_item}, [])"
        wanted = f"[{', '.join(map(literal, kinds))}]"
        return f"({later} or {f'list_has_any({seen}, {wanted})' if kinds else f'len({seen}) > 0'})"

    def kind_sql(self) -> str:
        """The boolean SQL expression that keeps the rows of this question's kind of touch."""
        return "true" if self.op_target is None else f"target = {literal(self.op_target)}"

    def rows_sql(self) -> str:
        return self.kind_sql()

    def narrowed(self) -> str:
        return f" with op_target {self.op_target!r}" if self.op_target else ""

    def without_rows(self) -> str:
        kind = "; its op_target must be one of the file's targets" if self.op_target else ""
        return (
            f"a row is a touch, so land the touches of those days{self.beside_touches} as "
            f"operation files, and the behavior of the {self.return_days} days after them{kind}"
        )

    def more_days(self) -> str:
        return (
            "its rows are touches, so land the touches of more campaign days, or wait until the "
            f"{self.return_days} days after more of them have landed (a shorter return_days waits "
            "less)"
        )

    def question(self) -> str:
        kinds = self.return_behaviors
        what = f"a behavior of the kind {', '.join(kinds)}" if kinds else "any behavior"
        item = " on the touched item" if self.return_on_item else ""
        touch = f" of the kind {self.op_target}" if self.op_target else ""
        start = "on the day itself or " if self.same_day else ""
        return (
            f"How likely is a user who gets a touch{touch} to show {what}{item} {start}within the "
            f"{self.return_days} days after it?"
        )
