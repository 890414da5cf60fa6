"""Settings of measuring effects: the control group of all campaigns, the way back to training."""

from typing import Annotated, Any

from pydantic import Field, PositiveInt, field_validator
from pydantic_settings import BaseSettings


class EffectSettings(BaseSettings):
    """What an operator may set about control groups; part of ``Settings``."""

    global_holdout_share: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.02, description="share of all users whom no campaign texts, to measure all of them"
    )
    global_holdout_epoch: str = Field(
        "1", min_length=1, description="another epoch draws the global control group afresh"
    )
    global_holdout_rotate_days: PositiveInt | None = Field(
        91, description='draws it afresh every so many days; "null": only with the epoch'
    )
    export_touches: bool = Field(
        True,
        description="what our own campaigns sent, and whom they held out, lands as operation rows; "
        "false where another system lands the same touches already",
    )

    simulated_people: bool = Field(
        False,
        description="people of this home are simulated and answer what the dry run writes to "
        "files, so that its reports measure them; else a dry run texts nobody and shows no effect",
    )

    @field_validator("global_holdout_rotate_days", mode="before")
    @classmethod
    def _never(cls, value: Any) -> Any:
        return None if value == "null" else value  # TOML and the environment have no null
