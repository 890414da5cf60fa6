"""The ``schedule:`` group of a campaign file: when the texts go out, once or again and again.

* now: ``execute_time: now``, or nothing in a campaign that is decided "on upload";
* on the task's day, from the setting ``send_from`` on: nothing in a campaign with a fixed date;
* at a time: ``execute_time: 2017-12-28 10:00:00``, in the business time zone if it names none;
* repeating: ``repeat_unit`` and ``repeat_cycle`` (every so many units), ``repeat_times`` (so many
  times after the first; -1: without end) and ``end_time``;
* smart: ``smart_send: {start_date, end_date}``, everyone at their own most active hour.
"""

from datetime import datetime
from typing import Literal, Self

from pydantic import Field, model_validator

from usergrowth_dagster.control.values import Day, Moment, Name, Start, Strict, key_error

SMART_DAYS = 31
"""Longest window of send-time optimization, in days."""


class SmartSendSpec(Strict):
    """The days inside which everyone is sent to at their own hour."""

    start_date: Day = Field(description="first day of the window")
    end_date: Day = Field(description="last day of the window")

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.end_date < self.start_date:
            raise key_error("end_date", "must not be before start_date")
        if (self.end_date - self.start_date).days >= SMART_DAYS:
            raise key_error("end_date", f"the window may have at most {SMART_DAYS} days")
        return self


class ScheduleSpec(Strict):
    """When the texts go out."""

    name: Name = Field(min_length=2, max_length=30, description="unique among schedules")
    execute_time: Start | None = Field(None, description='a time, or "now"; null = the task\'s day')
    end_time: Moment | None = Field(None, description="nothing is sent from it on")
    repeat_unit: Literal["never", "hour", "day", "week", "month"] = Field(
        "never", description="unit of repeat_cycle"
    )
    repeat_cycle: int = Field(0, ge=0, le=1000, description="every so many units; default 1")
    repeat_times: int = Field(
        0, ge=-1, le=100_000, description="times after the first; -1 = until end_time, or for ever"
    )
    refresh_audience: bool = Field(
        False, description="decide the audience again each time; false = keep the first one"
    )
    smart_send: SmartSendSpec | None = Field(
        None, description="send-time optimization: everyone gets the text at their own hour"
    )
    max_cost: float | None = Field(
        None, gt=0, lt=1e15, description="money that all its occurrences together may cost"
    )

    @model_validator(mode="after")
    def _agreeing(self) -> Self:
        if self.repeat_unit == "never":
            self._once()
        else:
            self._repeating()
        if self.smart_send:
            for key in ("execute_time", "end_time"):
                if getattr(self, key) is not None:
                    raise key_error(key, "smart_send has its own days and hours; remove one")
            if self.repeat_unit != "never":
                raise key_error("repeat_unit", "smart_send sends once; remove one of the two")
        start = self.execute_time
        if isinstance(start, datetime) and self.end_time:
            if (start.tzinfo is None) != (self.end_time.tzinfo is None):
                raise key_error("end_time", "give it and execute_time a time zone, or neither")
            if start >= self.end_time:
                raise key_error("end_time", "must be after execute_time")
        return self

    def _once(self) -> None:
        for key in ("repeat_cycle", "repeat_times", "refresh_audience"):
            if getattr(self, key):
                raise key_error(
                    key, "needs a repeat_unit: hour, day, week or month; without one it sends once"
                )

    def _repeating(self) -> None:
        given = self.model_fields_set
        if not self.repeat_cycle:
            if "repeat_cycle" in given:
                raise key_error("repeat_cycle", f"must be 1 or more {self.repeat_unit}s")
            object.__setattr__(self, "repeat_cycle", 1)
        if not self.repeat_times:
            if "repeat_times" in given or self.end_time is None:
                raise key_error(
                    "repeat_times",
                    "say how many times it repeats after the first: 1 or more, or -1 for no end "
                    "(with end_time it may be left out)",
                )
            object.__setattr__(self, "repeat_times", -1)
        if self.refresh_audience and self.repeat_unit == "hour":
            raise key_error(
                "refresh_audience",
                "is decided once a day; repeat by day, week or month",
            )
