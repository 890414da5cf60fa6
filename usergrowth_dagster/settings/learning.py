"""Settings of judging models: what a new version must pass, and when data has drifted."""

from typing import Annotated

from pydantic import Field, PositiveInt
from pydantic_settings import BaseSettings

Share = Annotated[float, Field(ge=0, le=1)]


class LearningSettings(BaseSettings):
    """What an operator may set about models; part of ``Settings``."""

    min_positives_train: PositiveInt = Field(
        50, description="a version whose train slice has fewer rows of either class is rejected"
    )
    min_positives_test: PositiveInt = Field(20, description="the same of its test slice")
    min_positives_slice: PositiveInt = Field(
        20, description="a part of the users with fewer rows of either class shows no figures"
    )
    max_calibration_error: Share = Field(
        0.02, description="calibration error that is allowed beyond what chance alone shows"
    )
    refresh_level_days: Annotated[int, Field(ge=0, le=90)] = Field(
        0,
        description="days of the newest closed labels that scoring takes the level of its "
        "probabilities from; 0 keeps the level of the training",
    )
    leak_auc: Annotated[float, Field(ge=0.5, le=1)] = Field(
        0.99, description="a feature that alone ranks the label so well is taken for a leak"
    )
    leak_dependence: Share = Field(
        0.1, description="a feature without which log-loss rises by so much is taken for a leak"
    )
    leak_jump: Share = Field(
        0.1, description="a feature's own AUC may rise by so much over that in the version before"
    )
    trusted_features: tuple[str, ...] = Field(
        (), description="columns known on the execution date, which the leakage gate leaves alone"
    )
    max_unseen_share: Share = Field(
        0.95, description="scoring fails when more of a column's values are new to the model"
    )
    drift_notice: Annotated[float, Field(gt=0)] = Field(
        0.1, description="population stability index from which a feature is named as shifted"
    )
    drift_warning: Annotated[float, Field(gt=0)] = Field(
        0.25, description="population stability index from which a feature has drifted"
    )
    drift_weight: Share = Field(
        0.25, description="a check warns when drifted features carry so much of a model's weight"
    )
