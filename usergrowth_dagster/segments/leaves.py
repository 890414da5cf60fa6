"""The leaves of a segment's tree: each is one condition on one table."""

import math
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from usergrowth_dagster.control.values import SEGMENT_NAME

Value = (
    StrictBool | StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)] | StrictStr | date
)

Cmp = Literal[
    "eq", "ne", "in", "nin", "lt", "le", "gt", "ge", "between", "contains", "starts",
    "set", "unset", "any", "all", "none",
]  # fmt: skip
"""Comparisons; ``any``, ``all`` and ``none`` are of tags with several values."""

WITHOUT_VALUE = ("set", "unset")
OF_LISTS = ("any", "all", "none")
OF_TEXTS = ("contains", "starts")
WITH_LIST = ("in", "nin", "between", *OF_LISTS)
NEGATIVE = ("ne", "nin", "none")
"""Comparisons that people without a value match with ``missing: include``."""

RfmType = Literal[
    "high_value", "key_retain", "key_develop", "key_win_back", "general_value",
    "general_retain", "general_develop", "potential", "none",
]  # fmt: skip

Days = Annotated[int, Field(strict=True, ge=1, le=3650)]


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Text = Annotated[str, Field(min_length=1, max_length=200)]
Texts = Annotated[
    tuple[Text, ...],
    BeforeValidator(_one_or_more, json_schema_input_type=Text | tuple[Text, ...]),
    Field(min_length=1),
]
Stage = Literal["A", "I", "P", "L"]
Stages = Annotated[
    tuple[Stage, ...],
    BeforeValidator(_one_or_more, json_schema_input_type=Stage | tuple[Stage, ...]),
    Field(min_length=1),
]


RfmTypes = Annotated[
    tuple[RfmType, ...],
    BeforeValidator(_one_or_more, json_schema_input_type=RfmType | tuple[RfmType, ...]),
    Field(min_length=1),
]
Decile = Annotated[int, Field(strict=True, ge=1, le=10)]
Deciles = Annotated[
    tuple[Decile, ...],
    BeforeValidator(
        lambda value: (value,) if isinstance(value, int) else value,
        json_schema_input_type=Decile | tuple[Decile, ...],
    ),
    Field(min_length=1),
]


class Keys(BaseModel):
    """A group of keys; an unknown one is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def rule(key: str, text: str) -> PydanticCustomError:
    """The error that a key breaks a rule, though another key decides it."""
    return PydanticCustomError("key_rule", "{rule}", {"key": key, "rule": text})


def is_below(path: str) -> bool:
    """Whether a path stays below the folder that it starts from."""
    is_relative = not path.startswith(("/", "~")) and "\\" not in path
    return is_relative and not {"..", "", "."} & set(path.split("/"))


def _is_day(value: Any) -> Any:
    """Refuse what pydantic would take for a day although nobody means one, such as 20240131."""
    if isinstance(value, datetime) or not isinstance(value, date | str | None):
        raise ValueError("must be a day such as 2024-01-31")
    return value


Day = Annotated[date, BeforeValidator(_is_day)]


class Window(Keys):
    """Days before the execution date: so many of the last, or from a day to a day."""

    first_day: Day | None = Field(
        None, alias="from", description="the first day, instead of so many days"
    )
    last_day: Day | None = Field(
        None, alias="to", description="the last day; default: the day before the execution date"
    )

    @property
    def days(self) -> int | None:
        """So many days before the execution date; None of a window from a day to a day."""
        raise NotImplementedError

    def _check(self, key: str) -> None:
        """Refuse both forms at once, and none.

        Raises:
            ValueError: there is not exactly one.
        """
        if (self.days is None) == (self.first_day is None):
            raise ValueError(f"give {key}, or from and to")
        if self.last_day is not None:
            if self.first_day is None:
                raise rule("to", f"needs from; {key} ends with the day before the execution date")
            if self.last_day < self.first_day:
                raise rule("to", "must not be before from")


class Comparison(Keys):
    """A comparison with a value, or with several."""

    cmp: Cmp = Field("eq", description="how the value is compared")
    value: Value | tuple[Value, ...] | None = Field(
        None, description="a value; a list for in, nin, any, all, none; two for between"
    )

    @field_validator("value", mode="before")
    @classmethod
    def _is_comparable(cls, value: Any) -> Any:
        items = value if isinstance(value, list | tuple) else [value]
        for one in items:
            finite = not isinstance(one, float) or math.isfinite(one)
            if not isinstance(one, bool | int | float | str | date | type(None)) or not finite:
                raise ValueError("must be true, false, a number, text or day, or a list of them")
        return value

    @property
    def values(self) -> tuple[Value, ...]:
        """The value or values, as a list."""
        if self.value is None:
            return ()
        return self.value if isinstance(self.value, tuple) else (self.value,)

    @model_validator(mode="after")
    def _value_fits(self) -> "Comparison":
        is_list = isinstance(self.value, tuple)
        if self.cmp in WITHOUT_VALUE:
            if self.value is not None:
                raise rule("value", f"{self.cmp} has no value")
        elif self.value is None:
            raise rule("value", "required, but missing")
        elif is_list != (self.cmp in WITH_LIST):
            form = "a list" if self.cmp in WITH_LIST else "one value"
            raise rule("value", f"{self.cmp} needs {form}")
        elif is_list and not 1 <= len(self.values) <= 1000:
            raise rule("value", "a list has 1 to 1000 values")
        elif self.cmp == "between" and len(self.values) != 2:
            raise rule("value", "between needs two values, the smaller one first")
        if self.cmp in OF_TEXTS and not isinstance(self.value, str):
            raise rule("value", f"{self.cmp} needs a text")
        return self


class Tagged(Comparison):
    """A tag: a column of ``user_tags`` on the execution date."""

    key: Text = Field(description="the tag")


class Attribute(Comparison):
    """An attribute, from the newest landed users before the execution date."""

    key: Literal["gender", "age", "user_type", "tenure_days"] | None = Field(
        None, description="one of the columns that every user has"
    )
    number: Text | None = Field(None, description="or a key of kvs_num")
    text: Text | None = Field(None, description="or a key of kvs_str")

    @model_validator(mode="after")
    def _one_source(self) -> "Attribute":
        if sum(one is not None for one in (self.key, self.number, self.text)) != 1:
            raise ValueError("give key, number or text, one of them")
        return self


class Feature(Comparison):
    """A column of ``user_features`` as of the execution date."""

    name: Text = Field(description="the column")


class Of(Comparison):
    """A condition on an event, or on its item as of the newest landed items before the date."""

    text: Text | None = Field(None, description="a text of the event: a key of its kvs_str")
    number: Text | None = Field(None, description="or a number of it: a key of its kvs_num")
    item_text: Text | None = Field(None, description="or a text of its item: a key of kvs_str")
    item_number: Text | None = Field(None, description="or a number of its item: a key of kvs_num")
    category: Text | None = Field(
        None,
        description="or the categories of its item: the values of a key of kvs_str, with | "
        "between them; cmp is any, all, none, set or unset",
    )

    @property
    def key(self) -> str:
        """Which of its sources is there."""
        return next(name for name in _OF if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _one_source(self) -> "Of":
        if sum(getattr(self, name) is not None for name in _OF) != 1:
            raise ValueError(f"give one of {', '.join(_OF)}")
        return self


_OF = ("text", "number", "item_text", "item_number", "category")


class Event(Window):
    """How many events, or how much of an amount, in the days before the execution date.

    Nobody lacks a value here: no event is a count of 0 and an amount of 0.
    """

    behavior: Texts | None = Field(None, description="kinds of behavior; default: every kind")
    items: Texts | None = Field(None, description="only events with these items")
    sum_of: Text | None = Field(None, description="key of an amount to add up, instead of events")
    at_least: float | None = Field(None, allow_inf_nan=False, description="default: 1")
    at_most: float | None = Field(None, allow_inf_nan=False, description="default: no limit")
    where: tuple[Of, ...] | None = Field(
        None, min_length=1, max_length=10, description="only events for which all of these hold"
    )
    within_days: Days | None = Field(None, description="so many days before the execution date")

    @property
    def days(self) -> int | None:
        """So many days before the execution date."""
        return self.within_days

    @property
    def low(self) -> float | None:
        """The smallest count or sum that matches."""
        return 1.0 if self.at_least is None and self.at_most is None else self.at_least

    @model_validator(mode="after")
    def _bounds_fit(self) -> "Event":
        self._check("within_days")
        if self.sum_of is None and self.at_least is not None and self.at_least <= 0:
            raise rule("at_least", "must be more than 0; at_most: 0 means never")
        if self.at_least is not None and self.at_most is not None and self.at_most < self.at_least:
            raise rule("at_most", "must not be less than at_least")
        return self


class Sequence(Window):
    """One behavior, then another within so many days, or not.

    The first is on a day of the window; what follows may be on any later day before the execution
    date. It counts from the same day on, since landed days need not have hours; of one and the same
    behavior, from the next day on. With ``not_then`` only first days count whose ``within_days``
    are over.
    """

    first: Text = Field(description="the behavior that comes first")
    then: Text | None = Field(None, description="the behavior that follows")
    not_then: Text | None = Field(None, description="or the behavior that does not follow")
    within_days: Days = Field(description="so many days after the first")
    last_days: Days | None = Field(
        None, description="the first is so many days before the execution date"
    )

    @property
    def days(self) -> int | None:
        """So many days before the execution date."""
        return self.last_days

    @model_validator(mode="after")
    def _one_end(self) -> "Sequence":
        self._check("last_days")
        if (self.then is None) == (self.not_then is None):
            raise ValueError("give then or not_then, one of them")
        return self


class Rfm(Keys):
    """Types or scores of the table ``rfm`` on the execution date; every key given must hold."""

    types: RfmTypes | None = Field(None, description="any of these types")
    r: tuple[StrictInt, ...] | None = Field(None, min_length=1, description="any of these scores")
    f: tuple[StrictInt, ...] | None = Field(None, min_length=1, description="any of these scores")
    m: tuple[StrictInt, ...] | None = Field(None, min_length=1, description="any of these scores")

    @model_validator(mode="after")
    def _something(self) -> "Rfm":
        if not any((self.types, self.r, self.f, self.m)):
            raise ValueError("give types, r, f or m")
        return self


class Aipl(Keys):
    """Stage of the table ``aipl`` on the execution date, or its change over so many days."""

    stage: Stages | None = Field(None, description="any of these stages")
    before: Stages | None = Field(None, alias="from", description="any of these stages, then")
    after: Stages | None = Field(None, alias="to", description="any of these stages now")
    over_days: Days | None = Field(None, description="days from then to now")

    @model_validator(mode="after")
    def _one_form(self) -> "Aipl":
        change = [self.before, self.after, self.over_days]
        if self.stage is not None and any(change):
            raise ValueError("give stage, or from with to and over_days")
        if self.stage is None and not all(change):
            raise ValueError("give stage, or from with to and over_days")
        return self


class Score(Keys):
    """Score of a question's model, of the newest date that has any; the best row of a user."""

    question: Text = Field(description="the question, such as churn")
    at_least: float | None = Field(None, allow_inf_nan=False, description="smallest score")
    at_most: float | None = Field(None, allow_inf_nan=False, description="greatest score")
    decile: Deciles | None = Field(
        None, description="any of these tenths of the scored people; 1 is the highest"
    )
    max_age_days: Annotated[int, Field(strict=True, ge=0, le=365)] = Field(
        7, description="scores of so many days before the execution date may be used"
    )

    @model_validator(mode="after")
    def _one_form(self) -> "Score":
        bounds = self.at_least is not None or self.at_most is not None
        if bounds == (self.decile is not None):
            raise ValueError("give decile, or at_least and at_most")
        return self


class Member(Keys):
    """Member of another segment: in its newest snapshot up to the date, or in a named one."""

    name: Text = Field(pattern=SEGMENT_NAME, description="the segment")
    snapshot: Text | None = Field(None, description="its snapshot; default: the newest")


class Upload(Keys):
    """The user ids of a CSV file with a column ``user_id``, below the folder of the segments."""

    file: Text = Field(description="path below the folder of the segments")

    @field_validator("file")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        if not is_below(value):
            raise ValueError("must be a path below the folder of the segments")
        return value


class Sample(Keys):
    """A random share of everybody, drawn by a hash: the same people every time.

    Samples of one salt contain each other: who is in 10 % is also in 20 %.
    """

    salt: Text = Field(description="another salt draws independently")
    share: float = Field(gt=0, lt=1, allow_inf_nan=False, description="their share")
