"""Outcome rows as arrays: those that were drawn into an arm, and how they were drawn."""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.control.campaign_blocks import ARM_NAMES
from usergrowth_dagster.effects.result import Altered
from usergrowth_dagster.effects.sample_ratio import Refused
from usergrowth_dagster.ranks import UPLIFT

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Array = NDArray[Any]

NEEDED = (
    *("row", "arm", "outcome", "propensity", "stratum", "variant", "variant_propensity"),
    *("score", UPLIFT, "decile", "returned", "days_to_return", "amount", "pre_events"),
    *("pre_active_days", "pre_amount", "messages", "cost", "sent", "delivered", "other_texts"),
)
"""Columns of the outcomes that are analyzed: none of them names a person."""
DRAWN = ("selected", "holdout")
"""Outcomes of the rows that the lift compares; ``explored`` ones serve off-policy answers only."""
COVARIATES = ("score", "pre_active_days", "pre_events", "pre_amount")
"""Covariates from before the execution date, the most informative first."""


@dataclass(frozen=True)
class Plan:
    """How a task's outcomes are to be analyzed.

    Attributes:
        task_id: the task.
        campaign: its campaign.
        execution_date: d.
        return_days: days from the execution date to the window's last.
        same_day: whether the execution date is in the window.
        landed_until: newest landed day of behavior; None: none.
        counted_until: newest day that the rows count; None: none of the window.
        complete: whether the window's last day has landed and is counted.
        level: of all analyses together.
        looks: planned analyses, the final one included.
        look: the analysis that the rows are of, from 1; 0: the first is still to come.
        currency: of money.
        margin: share of an amount that is profit.
        has_amount: whether the rows' amounts mean anything.
        value_per_return: worth of a return, used without amounts; None: unknown.
        decided: rows of each arm in the decision, so that lost outcomes show; None: not known.
        altered: what of the decision is not as it was decided; None: nothing.
        gaps: days of the counted window without any landed behavior.
        stays: whether a return means that an active user has stayed.
        everything: whether the texts of all campaigns are measured, not those of one task.
        sent_until: last day whose texts are counted; None: the whole window's.
        sent_later: users who got a text of the task after that.
        refused: people of the upload who refused since the arms were drawn; None: not asked.
    """

    task_id: str
    campaign: str
    execution_date: date
    return_days: int
    same_day: bool = False
    landed_until: date | None = None
    counted_until: date | None = None
    complete: bool = True
    level: float = 0.95
    looks: int = 1
    look: int = 1
    currency: str = "CNY"
    margin: float = 1.0
    has_amount: bool = False
    value_per_return: float | None = None
    decided: dict[str, int] | None = None
    altered: Altered | None = None
    gaps: int = 0
    stays: bool = False
    everything: bool = False
    sent_until: date | None = None
    sent_later: int = 0
    refused: Refused | None = None

    @property
    def first_day(self) -> int:
        """Days from the execution date to the window's first."""
        return 0 if self.same_day else 1


@dataclass(frozen=True)
class Rows:
    """The drawn rows, one position a row in every array of shape (n,).

    ``chance`` is that of the treatment arm, ``value`` in currency after the margin, ``day`` the day
    of return (infinity: none yet). ``repeated`` counts the rows of each arm that are there more
    than once.
    """

    treated: "Array"
    chance: "Array"
    returned: "Array"
    day: "Array"
    value: "Array"
    score: "Array"
    uplift: "Array"
    decile: "Array"
    covariates: "Array"
    strata: "Array | None"
    variants: "Array | None"
    variant_chance: "Array"
    messages: "Array"
    cost: "Array"
    sent: "Array"
    delivered: "Array"
    others: "Array"
    repeated: dict[str, int]
    has_receipts: bool

    def __len__(self) -> int:
        return len(self.treated)

    @property
    def uneven_chances(self) -> bool:
        """Whether rows were drawn with different chances."""
        return bool(len(self)) and float(self.chance.max() - self.chance.min()) > 1e-9

    @property
    def reached(self) -> "Array":
        """Whom a text reached: delivered, or sent where no delivery was ever reported."""
        return self.delivered if self.has_receipts else self.sent

    @property
    def own_chance(self) -> "Array":
        """The chance of the arm that each row is in."""
        import numpy as np

        return np.where(self.treated, self.chance, 1 - self.chance)


def read_rows(table: "pa.Table", plan: Plan) -> Rows:
    """The drawn rows of a table of outcomes.

    Args:
        table: with the columns of :data:`usergrowth_dagster.effects.outcomes.OUTCOME_COLUMNS`.
        plan: says what a return is worth.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    drawn = table.filter(pc.is_in(table.column("outcome"), value_set=pa.array(DRAWN)))

    def numbers(name: str, missing: float = 0.0) -> "Array":
        column = pc.fill_null(drawn.column(name).cast(pa.float64()), missing)
        return np.asarray(column.to_numpy())

    def flags(name: str) -> "Array":
        return numbers(name).astype(bool)

    def words(name: str) -> "Array | None":
        column = drawn.column(name)
        if column.null_count == len(column):
            return None
        coded = column.combine_chunks().dictionary_encode()  # one object a word, not one a row
        known = np.array([*coded.dictionary.to_pylist(), None], dtype=object)
        places = coded.indices.fill_null(len(known) - 1).to_numpy()
        return np.asarray(known[places])

    treated = np.array(pc.equal(drawn.column("arm"), "treatment").to_numpy(zero_copy_only=False))
    propensity = numbers("propensity", np.nan)
    returned = flags("returned")
    value = (
        numbers("amount") * plan.margin
        if plan.has_amount
        else returned * (plan.value_per_return or 0.0)
    )
    return Rows(
        treated=treated.astype(bool),
        chance=np.where(treated, propensity, 1 - propensity),
        returned=returned,
        day=numbers("days_to_return", np.inf),
        value=value,
        score=numbers("score", np.nan),
        uplift=numbers(UPLIFT, np.nan),
        decile=numbers("decile"),
        covariates=np.column_stack([_filled(numbers(name, np.nan)) for name in COVARIATES]),
        strata=words("stratum"),
        variants=_called(words("variant")),
        variant_chance=numbers("variant_propensity", 1.0),
        messages=numbers("messages"),
        cost=numbers("cost"),
        sent=flags("sent"),
        delivered=flags("delivered"),
        others=numbers("other_texts"),
        has_receipts=bool(flags("delivered").any()),
        repeated={arm: _repeated(drawn, arm) for arm in ("treatment", "control")},
    )


def _repeated(table: "pa.Table", arm: str) -> int:
    """Rows of an arm that are there more than once."""
    import pyarrow.compute as pc

    rows = table.filter(pc.equal(table.column("arm"), arm)).column("row")
    return int(len(rows) - pc.count_distinct(rows).as_py())


def _filled(values: "Array") -> "Array":
    """Missing covariates take the mean of the known: chosen without a look at arm or outcome."""
    import numpy as np

    known = np.isfinite(values)
    return np.where(known, values, values[known].mean() if known.any() else 0.0)


def _called(variants: "Array | None") -> "Array | None":
    """Names of texts as reports call them."""
    import numpy as np

    if variants is None:
        return None
    return np.array([called(name) for name in variants], dtype=object)


def called(name: str) -> str:
    """The name of a text as reports call it: one with the name of an arm, on record, is marked.

    >>> called("control")
    'text control'
    """
    return f"text {name}" if name in ARM_NAMES else name
