"""The stages of a user's life with a product (AARRR), to which questions and assets belong."""

from typing import Literal, get_args

Stage = Literal["acquisition", "activation", "retention", "revenue", "referral"]

STAGES: tuple[Stage, ...] = get_args(Stage)
"""In the order in which a user goes through them."""
