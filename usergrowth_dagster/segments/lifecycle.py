"""The leaf ``lifecycle`` of a segment's tree: whether a habit begins, lasts, ends or comes back."""

from typing import Literal

from pydantic import Field, model_validator

from usergrowth_dagster.segments.leaves import Days, Keys, Texts, Window, rule

UNITS = {"days": 1, "weeks": 7}
"""Days of each unit."""


class FirstSeen(Window):
    """The first event is in the window, as far back as the setting history_days."""

    within_days: Days | None = Field(None, description="so many days before the execution date")

    @property
    def days(self) -> int | None:
        """So many days before the execution date."""
        return self.within_days

    @model_validator(mode="after")
    def _one_form(self) -> "FirstSeen":
        self._check("within_days")
        return self


class Regularly(Keys):
    """An event in so many of the last weeks or days; a week is seven days, the last ends at D."""

    at_least: Days = Field(description="in so many of them")
    of: Days = Field(description="of the last so many")
    unit: Literal["days", "weeks"] = Field("weeks", description="weeks or days")

    @property
    def span(self) -> int:
        """Days that are looked at."""
        return self.of * UNITS[self.unit]

    @model_validator(mode="after")
    def _fits(self) -> "Regularly":
        if self.at_least > self.of:
            raise rule("at_least", "must not be more than of")
        return self


class Stopped(Keys):
    """An event in the active days, and none in the silent days after them, which end with D - 1."""

    active_days: Days = Field(description="so many days before the silence, with an event")
    silent_days: Days = Field(description="so many days before the execution date, without one")


class Resumed(Keys):
    """An event in the last days, after at least so many days without one, after an event."""

    silent_days: Days = Field(description="so many days without an event, or more")
    within_days: Days = Field(description="the return is so many days before the execution date")


class Lifecycle(Keys):
    """Whether a habit begins, lasts, ends or comes back; exactly one of the four."""

    behavior: Texts | None = Field(None, description="kinds of behavior; default: every kind")
    first_seen: FirstSeen | None = Field(None, description="it begins")
    regularly: Regularly | None = Field(None, description="or it lasts")
    stopped: Stopped | None = Field(None, description="or it ends")
    resumed: Resumed | None = Field(None, description="or it comes back")

    @model_validator(mode="after")
    def _one_form(self) -> "Lifecycle":
        forms = (self.first_seen, self.regularly, self.stopped, self.resumed)
        if sum(one is not None for one in forms) != 1:
            raise ValueError("give one of first_seen, regularly, stopped and resumed")
        return self
