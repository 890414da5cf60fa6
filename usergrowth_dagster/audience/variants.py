"""Which of a campaign's texts a person is given: drawn by a hash, therefore drawn again alike.

A user's place is a salted SHA-256 of (campaign, epoch of the holdout, user), as in
:mod:`usergrowth_dagster.audience.holdout` but with a salt of its own, so that the draw of the text
is independent of the draw of the arm: people who are held out have a text too, the one that they
would have got, and each text is measured against a control group of its own. The places are cut at
the cumulated shares in the order of the names, so the order in the file does not matter.
"""

from fractions import Fraction
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from usergrowth_dagster.audience.holdout import hash_cell, hash_cell_sql, salt
from usergrowth_dagster.quoting import literal

_CELLS: int = 2**52  # of `hash_cell`

Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class VariantDraw(BaseModel):
    """How the texts of a campaign are drawn: ``weights`` by name, of any sum."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    campaign: Annotated[str, Field(min_length=1)]
    epoch: Annotated[str, Field(min_length=1)]
    weights: dict[str, Weight] = Field(min_length=1)

    @property
    def chances(self) -> dict[str, float]:
        """The probability of each text; they sum to 1."""
        return {name: float(share) for name, share in self._shares().items()}

    def _shares(self) -> dict[str, Fraction]:
        # the decimals that a person wrote: 0.1 and 0.2 are one to two
        weights = {name: Fraction(repr(self.weights[name])) for name in sorted(self.weights)}
        whole = sum(weights.values())
        return {name: weight / whole for name, weight in weights.items()}

    def _ends(self) -> dict[str, int]:
        """Where each text's places end, of all cells; the last one's is the end of all."""
        ends, reached = {}, Fraction(0)
        for name, share in self._shares().items():
            reached += share
            ends[name] = int(reached * _CELLS)
        return ends

    @property
    def _salt(self) -> str:
        return salt("variant", self.campaign, self.epoch)


def variant(draw: VariantDraw, user: str) -> str:
    """The name of a user's text."""
    cell = hash_cell(draw._salt, user)
    return next(name for name, end in draw._ends().items() if cell < end)


def variant_sql(draw: VariantDraw, user: str) -> str:
    """DuckDB expression (VARCHAR) equal to :func:`variant`.

    Args:
        draw: the draw.
        user: the SQL expression of the user id, a VARCHAR.
    """
    *others, (last, _) = draw._ends().items()
    cell = hash_cell_sql(draw._salt, user)
    cases = " ".join(f"when {cell} < {end} then {literal(name)}" for name, end in others)
    return f"case {cases} else {literal(last)} end" if others else literal(last)


def chance_sql(draw: VariantDraw, variant: str) -> str:
    """DuckDB expression (DOUBLE): the probability of the text that an expression names."""
    cases = " ".join(
        f"when {literal(name)} then cast('{chance!r}' as double)"
        for name, chance in draw.chances.items()
    )
    return f"case {variant} {cases} end"
