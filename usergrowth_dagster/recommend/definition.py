"""``recommend.yml``: what of a home's behavior and items recommendation looks at, and how long."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.yaml_file import explain, read_mapping, read_text

FILE_NAME = "recommend.yml"
SERVICE = "recommend"
"""Name of the service that answers with recommendations, and of the tokens of its callers."""


class Trial(BaseModel):
    """A share of the users that a service answers in another order.

    Attributes:
        name: another name draws the users anew.
        order: of the candidates: the fusion, or a route with the fusion behind it.
        percent: of the users.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=40, description="another name draws users anew")
    order: Literal["fused", "i2i", "next", "u2i", "c2i"] = Field(
        description="the fusion, or a route with the fusion behind it"
    )
    percent: float = Field(gt=0, lt=100, description="of the users")


class Recommend(BaseModel):
    """The keys of the file.

    Attributes:
        behaviors: kinds of behavior that count; none: all that have an item.
        category: key of the items' string attributes; None: no route by category, and no cap.
        title: key of the items' string attributes that texts show; None: the item's id.
        stock: key of the items' numbers; an item with 0 or less is not shown.
        block: ids of items that are never shown.
        lookback_days: how many days before the date count.
        slice_days: the last of them, on which the order is chosen.
        top: items of a user that are kept.
        per_category: items of one category in a user's list at most.
        trial: a share of the users that a service answers in another order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    behaviors: tuple[str, ...] = Field((), description="kinds of behavior that count; none: all")
    category: str | None = Field(
        None, min_length=1, description="key of the items' string attributes"
    )
    title: str | None = Field(
        None, min_length=1, description="key of the items' string attributes that texts show"
    )
    stock: str | None = Field(
        None, min_length=1, description="key of the items' numbers; 0 or less is not shown"
    )
    block: tuple[str, ...] = Field((), description="ids of items that are never shown")
    lookback_days: int = Field(180, ge=2, le=3650, description="days before the date that count")
    slice_days: int = Field(
        7, ge=1, le=90, description="the last of them, on which the order is chosen"
    )
    top: int = Field(20, ge=1, le=500, description="items of a user that are kept")
    per_category: int | None = Field(
        None, ge=1, le=500, description="items of one category in a user's list at most"
    )
    trial: Trial | None = Field(
        None, description="a share of the users that a service answers in another order"
    )

    @model_validator(mode="after")
    def _route_of_the_trial_is_there(self) -> Self:
        if self.trial is not None and self.trial.order == "c2i" and self.category is None:
            raise ValueError("trial: the order c2i needs the key category")
        return self


def read_recommend(path: Path) -> Recommend:
    """What a file asks for.

    Raises:
        UserError: the file is missing or breaks its format; names the key and the rule.
    """
    if not path.exists():
        raise UserError(f"{path} is not there; write at least `top: 20`", code="recommend.bad_file")
    origin = str(path)
    try:
        return Recommend.model_validate(read_mapping(read_text(path), origin))
    except ValidationError as error:
        sentence = str(explain(error, Recommend, origin))
        raise UserError(sentence, code="recommend.invalid") from None
