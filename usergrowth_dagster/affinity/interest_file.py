"""``interest.yml``: by what the users of a home are ranked in each category of items."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.yaml_file import explain, read_mapping, read_text

FILE_NAME = "interest.yml"


class Interest(BaseModel):
    """The keys of the file.

    Attributes:
        category: key of the items' string attributes, such as genre; None with words.
        words: whether the words of the items' texts are the categories, as tags.yml has them.
        amount: key of the behaviors' numbers, such as pay; None: amounts do not count.
        behaviors: kinds of behavior that count; none: all that have an item.
        decay: η of e^(-η·months).
        lookback_days: how many days before the date count.
        top: users of a category that are kept.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    category: str | None = Field(
        None, min_length=1, description="key of the items' string attributes"
    )
    words: bool = Field(
        False, description="take the words of the items' texts instead; tags.yml names the texts"
    )
    amount: str | None = Field(None, min_length=1, description="key of the behaviors' numbers")
    behaviors: tuple[str, ...] = Field((), description="kinds of behavior that count; none: all")
    decay: float = Field(0.5, gt=0, le=10, description="η of e^(-η·months)")
    lookback_days: int = Field(365, ge=1, le=3650, description="days before the date that count")
    top: int = Field(1000, ge=1, le=10_000_000, description="users of a category that are kept")

    @model_validator(mode="after")
    def _one(self) -> "Interest":
        if (self.category is None) == (not self.words):
            raise ValueError("give category or words: true, one of them")
        return self


def read_interest(path: Path) -> Interest:
    """What a file asks for.

    Raises:
        UserError: the file is missing or breaks its format; names the key and the rule.
    """
    if not path.exists():
        raise UserError(
            f"{path} is not there; write at least `category: ` and the key of the items' "
            "attribute, or `words: true`",
            code="affinity.bad_file",
        )
    origin = str(path)
    try:
        return Interest.model_validate(read_mapping(read_text(path), origin))
    except ValidationError as error:
        raise UserError(str(explain(error, Interest, origin)), code="affinity.invalid") from None
