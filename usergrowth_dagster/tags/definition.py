"""The file ``tags.yml``: the tag catalogue of a home, its RFM model and its AIPL stages.

    tags:
      - key: regular
        name: Regular
        name_zh: 常客
        rule: active_days_90d >= 20
      - key: spend_30d
        statistic: {sum: "amounts['amount']", days: 30}
      - key: churn_band
        score: {question: churn, bands: {low: 0.3, middle: 0.7, high: 1}}
      - key: vip
        upload: vip.csv
      - key: likes
        words: {days: 90, top: 5}
    texts: {keys: [title, description]}
    rfm: {orders: [buy], amount: amount}
    aipl:
      interest: [{behavior: [click], within_days: 30}]
      purchase: [{behavior: [buy]}]
      loyal: [{behavior: [buy], at_least: 2}]

A rule is one expression of DuckDB over the columns of ``user_features`` as of the date; what a
statistic adds up is one over the columns of ``user_day``. The classes here are the format.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, StringConstraints, ValidationError, model_validator

from usergrowth_dagster.control.values import Name, Strict, key_error
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.tags.text_keys import ItemTexts, Words
from usergrowth_dagster.yaml_file import explain, read_mapping, read_text

FILE_NAME = "tags.yml"
"""File of a home with its tags."""

SOURCES = ("rule", "statistic", "score", "upload", "words")
"""Keys of a tag of which it has one: where its values come from."""

UPLOADS = "tags"
"""Folder below the landing root with the files of uploaded tags."""

RESERVED = frozenset({"ds", "user_id"})
"""Columns of the table of tags that are no tags."""

LONGEST_WINDOW = 1000
"""Days that a window may have at most."""

Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,59}$")]
Expression = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Days = Annotated[PositiveInt, Field(le=LONGEST_WINDOW)]
Behavior = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Number = Annotated[float, Field(strict=False, allow_inf_nan=False)]
TagType = Literal["bool", "int", "float", "text", "multi", "date"]

DUCKDB_TYPES: Mapping[TagType, str] = {
    "bool": "BOOLEAN",
    "int": "BIGINT",
    "float": "DOUBLE",
    "text": "VARCHAR",
    "multi": "VARCHAR[]",
    "date": "DATE",
}
"""DuckDB type of the column of each type of tag."""


class Statistic(Strict):
    """A sum, count or the like over what a user did in the days before the date."""

    sum: Expression | None = Field(None, description="of an expression over user_day")
    max: Expression | None = Field(None, description="largest value of an expression")
    min: Expression | None = Field(None, description="smallest value of an expression")
    mean: Expression | None = Field(None, description="mean value over the days with one")
    days_with: Expression | None = Field(None, description="days on which a condition holds")
    days: Days = Field(description="days before the date that count")

    @property
    def operation(self) -> tuple[str, str]:
        """What is worked out (sum, max, min, mean, days_with), and the expression."""
        names = ("sum", "max", "min", "mean", "days_with")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        return next(iter(given.items()))

    @model_validator(mode="after")
    def _one(self) -> "Statistic":
        names = ("sum", "max", "min", "mean", "days_with")
        if sum(getattr(self, name) is not None for name in names) != 1:
            raise ValueError(f"give one of {', '.join(names)}")
        return self


class Score(Strict):
    """The newest score of a question up to the date, or the band that it lies in."""

    question: Behavior = Field(description="whose model scores, such as churn")
    bands: dict[Behavior, Number] | None = Field(
        None, min_length=1, max_length=20, description="name of each band and its largest score"
    )

    @model_validator(mode="after")
    def _rising(self) -> "Score":
        limits = list((self.bands or {}).values())
        if limits != sorted(set(limits)):
            raise key_error("bands", "the largest scores of the bands rise in the order given")
        return self


class Tag(Strict):
    """One tag: a value of each user as of a date."""

    key: Key = Field(description="name of its column; lower case")
    name: Name = Field("", description="for people, in English")
    name_zh: Name = Field("", description="for people, in Chinese")
    description: str = Field("", description="what it says of a person")
    owner: Name = Field("", description="who answers for it")
    type: TagType | None = Field(None, description="default: what the rule gives")
    rule: Expression | None = Field(None, description="expression over user_features")
    statistic: Statistic | None = Field(None, description="sum, count or the like over user_day")
    score: Score | None = Field(None, description="newest score of a question, or its band")
    upload: str | None = Field(
        None,
        min_length=1,
        description="CSV file in the folder tags/ below the landing root, with user_id and value",
    )
    refresh: Literal["daily", "weekly", "once"] = Field(
        "daily",
        description="when it is worked out again; until then the values of an earlier date stand",
    )
    fresh_days: PositiveInt | None = Field(
        None, le=LONGEST_WINDOW, description="days that its values count as fresh; then it is stale"
    )
    words: Words | None = Field(None, description="words of the texts of what the user took")
    sensitivity: Literal["none", "personal", "sensitive"] = Field(
        "none",
        description="values of personal tags are shown only where they are asked for, those of "
        "sensitive tags nowhere",
    )
    max_age_days: PositiveInt | None = Field(
        None, le=LONGEST_WINDOW, description="an older upload or score gives no value"
    )
    deprecated_by: Key | None = Field(None, description="the tag that is to be used instead")

    @property
    def source(self) -> str:
        """Where its values come from: rule, statistic, score, upload or words."""
        return next(name for name in SOURCES if getattr(self, name) is not None)

    def is_hidden(self, *, personal: bool = False) -> bool:
        """Whether its values are not shown; ``personal`` asks for those of personal tags."""
        return self.sensitivity == "sensitive" or (self.sensitivity == "personal" and not personal)

    @model_validator(mode="after")
    def _whole(self) -> "Tag":
        if sum(getattr(self, name) is not None for name in SOURCES) != 1:
            raise ValueError(f"give one of {', '.join(SOURCES)}")
        if self.key in RESERVED:
            raise key_error("key", f"{self.key!r} is a column of every table; choose another")
        if self.upload is not None:
            if self.type is None:
                raise key_error("type", "an upload needs one, since a file holds texts")
            if self.type == "multi":
                raise key_error("type", "a file has one value a line; multi is of rules and words")
            if self.upload.startswith("/") or ".." in self.upload.split("/"):
                raise key_error("upload", "is a path below tags/ of the landing root, without ..")
        if self.words is not None and self.type not in (None, "multi"):
            raise key_error("type", "words are multi; leave it out")
        if self.max_age_days is not None and self.source != "score":
            raise key_error("max_age_days", "is of scores")
        if self.refresh == "weekly" and self.fresh_days is not None and self.fresh_days < 6:
            rule = "a weekly tag is up to 6 days old; give at least 6, or refresh: daily"
            raise key_error("fresh_days", rule)
        return self


Cuts = Annotated[tuple[Number, ...], Field(min_length=1, max_length=9, strict=False)]


class High(Strict):
    """The smallest score that is high; each is the mean score of the buyers where it is left out.

    The means are those of the execution date.
    """

    recency: Number | None = Field(None, description="smallest high score of recency")
    frequency: Number | None = Field(None, description="smallest high score of frequency")
    monetary: Number | None = Field(None, description="smallest high score of money")


class Rfm(Strict):
    """How recently, how often and for how much users bought, as scores and eight groups."""

    orders: tuple[Behavior, ...] = Field(
        min_length=1, strict=False, description="kinds of behavior that are an order"
    )
    amount: Behavior | None = Field(None, description="kvs_num key of the money of an order")
    count: Literal["events", "days"] = Field(
        "events", description="orders are events, or days with at least one"
    )
    window_days: Days = Field(365, description="days before the date in which orders count")
    scoring: Literal["cuts", "quintiles"] = Field(
        "cuts", description="fixed cuts, or fifths of the buyers of the date"
    )
    recency: Cuts = Field((30, 90), description="days since the last order, rising")
    frequency: Cuts = Field((1, 4), description="orders, rising")
    monetary: Cuts = Field((100, 1000), description="money, rising")
    high: High = Field(High(), description="the smallest high scores; default: the means")

    @model_validator(mode="after")
    def _rising(self) -> "Rfm":
        for name in ("recency", "frequency", "monetary"):
            cuts = getattr(self, name)
            if list(cuts) != sorted(set(cuts)):
                raise key_error(name, "cuts rise, such as [30, 90]")
            if self.scoring == "quintiles" and name in self.model_fields_set:
                raise key_error(name, "quintiles have no cuts; remove it, or write scoring: cuts")
        return self


class StageRule(Strict):
    """What a user did to be in a stage: so many events of some kinds within some days."""

    behavior: tuple[Behavior, ...] = Field(
        min_length=1, strict=False, description="kinds of behavior; their events are added up"
    )
    at_least: PositiveInt = Field(1, description="events")
    within_days: Days = Field(30, description="days before the date that count")
    amount: Behavior | None = Field(None, description="kvs_num key that is added up")
    amount_at_least: Number | None = Field(None, description="smallest sum of the amount")

    @model_validator(mode="after")
    def _pair(self) -> "StageRule":
        if (self.amount is None) != (self.amount_at_least is None):
            raise ValueError("amount and amount_at_least belong together; give both")
        return self


class Aipl(Strict):
    """Awareness, interest, purchase, loyalty: the rules of each stage, any of which is enough.

    Users are in the last stage whose rules they meet.
    """

    awareness: tuple[StageRule, ...] = Field((), strict=False, description="passive contact")
    interest: tuple[StageRule, ...] = Field((), strict=False, description="active contact")
    purchase: tuple[StageRule, ...] = Field((), strict=False, description="bought")
    loyal: tuple[StageRule, ...] = Field((), strict=False, description="bought again, or shared")

    @property
    def stages(self) -> dict[str, tuple[StageRule, ...]]:
        """The rules by the letter of the stage, first stage first."""
        return {
            "A": self.awareness,
            "I": self.interest,
            "P": self.purchase,
            "L": self.loyal,
        }

    @model_validator(mode="after")
    def _some(self) -> "Aipl":
        if not any(self.stages.values()):
            raise ValueError("give the rules of at least one stage")
        return self


class Catalogue(Strict):
    """Everything that ``tags.yml`` says."""

    tags: tuple[Tag, ...] = Field((), max_length=500, strict=False)
    texts: ItemTexts | None = None
    rfm: Rfm | None = None
    aipl: Aipl | None = None

    @model_validator(mode="after")
    def _whole(self) -> "Catalogue":
        if not self.tags and self.texts is None and self.rfm is None and self.aipl is None:
            raise ValueError("give tags, texts, rfm or aipl")
        keys = [tag.key for tag in self.tags]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise key_error(f"tags.{place}.key", f"two tags have the key {key!r}")
        for place, tag in enumerate(self.tags):
            if tag.words is not None and self.texts is None:
                rule = "the file has no texts, which say where an item's words are; add them"
                raise key_error(f"tags.{place}.words", rule)
            if tag.deprecated_by is not None and tag.deprecated_by not in keys:
                rule = f"there is no tag {tag.deprecated_by!r}"
                raise key_error(f"tags.{place}.deprecated_by", rule)
        return self


def read_catalogue(path: Path) -> Catalogue:
    """The catalogue that a file describes.

    Raises:
        UserError: the file is missing or breaks its format; names the key path and the rule.
    """
    return parse_catalogue(read_text(path), str(path))


def parse_catalogue(text: str, origin: str) -> Catalogue:
    """The catalogue that a text describes; errors as in :func:`read_catalogue`.

    Args:
        text: the YAML.
        origin: where it comes from, for the error.
    """
    try:
        return Catalogue.model_validate(read_mapping(text, origin))
    except ValidationError as error:
        raise UserError(str(explain(error, Catalogue, origin)), code="tag.invalid") from None
