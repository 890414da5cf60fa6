"""What candidates are ranked by: the score of the campaign's question, or the effect of a text."""

from typing import Final, Literal

RankBy = Literal["score", "uplift"]
SCORE: Final = "score"
UPLIFT: Final = "uplift"
"""Also the column of scores, decisions and outcomes that holds the effect."""
EFFECT_COLUMNS = (UPLIFT, "uplift_version")
"""Columns of the effect; scores from before there were effects lack them."""
