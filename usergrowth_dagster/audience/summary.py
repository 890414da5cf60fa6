"""What a decision comes to: its rows by outcome, and what the texts take."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usergrowth_dagster.audience.eligibility import OUTCOMES

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Spend:
    """What the texts take: message segments, and cost in currency."""

    messages: int
    cost: float


def summarize(table: "pa.Table") -> dict[str, int]:
    """Rows by outcome, in the outcomes' order of precedence; those without rows are left out.

    The counts add up to the rows of the table, which are the rows of the population.
    """
    counted = table.column("outcome").value_counts().to_pylist()
    counts = {str(entry["values"]): int(entry["counts"]) for entry in counted}
    known = [outcome for outcome in OUTCOMES if outcome in counts]
    return {outcome: counts[outcome] for outcome in [*known, *sorted(counts.keys() - set(known))]}


def spend(table: "pa.Table") -> Spend:
    """Expected messages and cost of the rows that are texted, rounded to 1e-9 of the currency."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texted = table.filter(pc.equal(table.column("arm"), "treatment"))
    money = pa.decimal128(38, 9)  # exact, as the budget is checked
    cost = pc.sum(pc.round(texted.column("cost"), 9).cast(money, safe=False)).as_py()
    return Spend(int(pc.sum(texted.column("messages")).as_py() or 0), float(cost or 0))
