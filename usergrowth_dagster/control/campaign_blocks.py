"""The blocks of a campaign file: its texts, who is chosen, when texts go out, and what is measured.

* ``template:`` one text, or several between which people are drawn (A/B/n). A template's own
  ``content`` is the text that is called as the template; ``variants`` are further ones by name.
  Each is a template record of its own, with its own provider's code and review. A report has the
  figures of each text beside those of the arms, by name: no text is called like one.
* ``selection:`` and ``holdout:`` who of the scored population is chosen, and who is held out to
  measure the effect.
* ``schedule:`` when the texts go out.

  * now: ``execute_time: now``, or nothing in a campaign that is decided "on upload";
  * on the task's day, from the setting ``send_from`` on: nothing in a campaign with a fixed date;
  * at a time: ``execute_time: 2017-12-28 10:00:00``, in the business time zone if it names none;
  * repeating: ``repeat_unit`` and ``repeat_cycle`` (every so many units), ``repeat_times`` (so many
    times after the first; -1: without end) and ``end_time``;
  * smart: ``smart_send: {start_date, end_date}``, everyone at their own most active hour.
* ``contact:`` the campaign's own rules of when and how often; what it leaves out is as the settings
  say.
* ``effect:`` what counts as a return, within how long, at what worth.
"""

import re
from dataclasses import dataclass
from datetime import datetime, time
from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from usergrowth_dagster.control.values import (
    FROM_FILE,
    Day,
    Moment,
    Name,
    SegmentName,
    Start,
    Strict,
    Word,
    check_name,
    key_error,
)
from usergrowth_dagster.ranks import SCORE, UPLIFT, RankBy

SMART_DAYS = 31
"""Longest window of send-time optimization, in days."""
POLICIES = ("threshold", "top_n", "budget", "money")
MAX_NAME = 30
MAX_VARIANTS = 9
"""Beside the template's own text; with more, each is too seldom sent to say anything."""

ARM_NAMES = ("treatment", "control", "explored")
"""What a report calls groups of people; a text of that name would take the group's place."""

CLICK = "click"
"""Behavior that a click on a short link lands as."""

LINK = "${link}"
"""Where the short link stands in a text."""

LONGEST_URL = 2_000
_URL = re.compile(r"https?://[^\s/?#@\\]+([/?#][!-~]*)?", re.IGNORECASE)


def _absolute(value: str) -> str:
    if not _URL.fullmatch(value) or not value.isascii() or len(value) > LONGEST_URL:
        raise ValueError(
            f"must be an absolute http or https URL of up to {LONGEST_URL} characters such as "
            "https://shop.example/offer, other letters percent-encoded"
        )
    if "${" in value:
        raise ValueError("leads everybody to the same page, so it holds no variables")
    return value


def _is_none(value: Any) -> bool:
    return value is None  # a campaign without links keeps its JSON form and digest


Link = Annotated[str, AfterValidator(_absolute)]
"""Where a short link leads."""

Channel = Literal["sms", "email"]
"""How people are contacted."""

ProviderCode = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


@dataclass(frozen=True)
class CampaignText:
    """One text of a campaign.

    ``name`` is that of its template record and of the variant, ``code`` the provider's, ``share``
    its weight in the draw, ``key`` its key path in the campaign file, ``link`` where its short link
    leads (None: it has none), ``channel`` how it goes (None: by the campaign's channel).
    """

    name: str
    content: str
    subject: str | None
    code: str | None
    share: float
    key: str
    link: str | None = None
    channel: Channel | None = None


class VariantSpec(Strict):
    """One more text of a campaign; its type, and a subject that it lacks, are the template's."""

    content: str = Field(min_length=1, max_length=20_000, description="the text")
    subject: str | None = Field(None, min_length=1, max_length=200, description="of an e-mail")
    code: ProviderCode | None = Field(None, description="the provider's own code of this text")
    share: float = Field(1.0, gt=0, le=1e6, description="weight among the texts")
    channel: Channel | None = Field(
        None,
        description="how this text goes; default: the campaign's channel",
        exclude_if=_is_none,
    )
    link: Link | None = Field(
        None, description="where ${link} leads; default: template.link", exclude_if=_is_none
    )


class TemplateSpec(Strict):
    """The text with its ``${variables}``; its rules are checked in messaging."""

    name: Name = Field(min_length=1, max_length=MAX_NAME, description="reviewed by this name")
    content: str = Field(
        min_length=1, max_length=20_000, description="the text; ${name} is a column of the upload"
    )
    type: Literal["code", "notification", "promotion"] = Field(
        "promotion", description="a promotion must say how to refuse"
    )
    subject: str | None = Field(None, min_length=1, max_length=200, description="of an e-mail")
    code: ProviderCode | None = Field(
        None, description="the provider's own code of the approved template, such as SMS_123456"
    )
    share: float | None = Field(
        None, gt=0, le=1e6, description="weight of this text among the variants; default 1"
    )
    variants: dict[str, VariantSpec] = Field(
        {}, max_length=MAX_VARIANTS, description="further texts by name, drawn by their shares"
    )
    link: Link | None = Field(
        None,
        description="absolute URL that the short link at ${link} leads to",
        exclude_if=_is_none,
    )

    @field_validator("variants", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        for name in value if isinstance(value, dict) else ():
            if not isinstance(name, str):
                raise ValueError(f"a variant's name is a text: write {name!r} in quotes")
        return value

    @model_validator(mode="after")
    def _whole(self, info: ValidationInfo) -> Self:
        named = ((self.name, "name"), *((n, f"variants.{n}") for n in self.variants))
        for name, key in named if info.context == FROM_FILE else ():
            if name in ARM_NAMES:
                rule = f"a report calls a group of people {name}; choose another name for the text"
                raise key_error(key, rule)
            try:
                check_name(name)
            except ValueError as error:
                raise key_error(key, str(error)) from None
        if info.context == FROM_FILE:
            self._check_links()
        if self.share is not None and not self.variants:
            raise key_error("share", "only a template with variants shares its people; remove it")
        codes: dict[str, str] = {self.code: self.name} if self.code else {}
        for name, variant in self.variants.items():
            if not 1 <= len(name) <= MAX_NAME:
                rule = f"a variant's name has 1 to {MAX_NAME} characters, this one {len(name)}"
                raise key_error(f"variants.{name}", rule)
            if name == self.name:
                rule = "the template's own text has this name; choose another"
                raise key_error(f"variants.{name}", rule)
            if variant.code and codes.setdefault(variant.code, name) != name:
                rule = (
                    f"{variant.code} is the code of {codes[variant.code]!r}; each text has its own"
                )
                raise key_error(f"variants.{name}.code", rule)
        return self

    def _check_links(self) -> None:
        """Refuse a link without its place in a text, and the place without a link."""
        for text in self.texts:
            if LINK in text.content and text.link is None:
                rule = f"{LINK} needs the key link: the URL that the short link leads to"
                raise key_error(f"{text.key}.content".removeprefix("template."), rule)
        unused = "where the short link would stand; add it or remove link"
        for name, variant in self.variants.items():
            if variant.link is not None and LINK not in variant.content:
                raise key_error(f"variants.{name}.link", f"its text has no {LINK}, {unused}")
        if self.link is not None and not any(LINK in text.content for text in self.texts):
            raise key_error("link", f"no text has {LINK}, {unused}")

    def _subject_of(self, variant: VariantSpec) -> str | None:
        """A variant's subject, or the template's, which a text message does not take over."""
        return variant.subject or (None if variant.channel == "sms" else self.subject)

    @property
    def texts(self) -> tuple[CampaignText, ...]:
        """All texts: the template's own, then the variants in the order of the file."""
        main = CampaignText(
            *(self.name, self.content, self.subject, self.code, self.share or 1.0, "template"),
            self.link if LINK in self.content else None,
        )
        return (
            main,
            *(
                CampaignText(
                    *(name, one.content, self._subject_of(one), one.code, one.share),
                    f"template.variants.{name}",
                    (one.link or self.link) if LINK in one.content else None,
                    one.channel,
                )
                for name, one in self.variants.items()
            ),
        )


class MoneySpec(Strict):
    """Those whose text is worth more than it costs: effect.value_per_return x uplift > cost."""

    budget: float | None = Field(None, gt=0, lt=1e15, description="money for messages; null: any")
    min_profit: float = Field(0.0, ge=0, description="net value that a text must exceed")


class FallbackSpec(Strict):
    """The policy of a campaign that chooses by uplift, as long as no uplift model may score."""

    threshold: float | None = Field(None, gt=0, lt=1, description="selected when score > it")
    top_n: PositiveInt | None = Field(None, description="the n highest scores")
    budget: float | None = Field(None, gt=0, lt=1e15, description="money for messages, best first")

    @model_validator(mode="after")
    def _one(self) -> Self:
        _exactly_one(self, POLICIES[:3])
        return self


class SelectionSpec(Strict):
    """Who of the scored population is chosen; exactly one policy."""

    threshold: float | None = Field(None, gt=0, lt=1, description="selected when score > it")
    top_n: PositiveInt | None = Field(None, description="the n best ranked")
    budget: float | None = Field(None, gt=0, lt=1e15, description="money for messages, best first")
    money: MoneySpec | None = Field(None, description="those whose uplift is worth the text")
    rank_by: RankBy = Field(SCORE, description="of top_n and budget")
    fallback: FallbackSpec | None = Field(None, description="by score, while no uplift model may")
    explore: float = Field(
        0.0, ge=0, le=0.5, description="share of those not chosen who are texted at random"
    )
    segment: SegmentName | None = Field(
        None,
        description="only people of this segment's snapshot as of the execution date; without a "
        "population they are all of it",
        exclude_if=_is_none,
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        _exactly_one(self, POLICIES)
        if self.rank_by == UPLIFT and self.threshold is not None:
            rule = "a threshold is one of the score; use top_n, budget or money"
            raise key_error("rank_by", rule)
        if self.fallback is not None and not self.by_uplift:
            raise key_error("fallback", "only a choice by uplift has one; remove it")
        return self

    @property
    def by_uplift(self) -> bool:
        """Whether the choice needs an uplift model."""
        return self.money is not None or self.rank_by == UPLIFT

    @property
    def spending_limit(self) -> float | None:
        """The most that one decision may spend, by its policy or the fallback; None: any sum."""
        budget = self.money.budget if self.money else self.budget
        if self.fallback is None:
            return budget
        fallback_budget = self.fallback.budget
        return None if budget is None or fallback_budget is None else max(budget, fallback_budget)


def _exactly_one(spec: Strict, names: tuple[str, ...]) -> None:
    given = [key for key in names if getattr(spec, key) is not None]
    if len(given) != 1:
        raise ValueError(
            f"needs exactly one of {', '.join(names[:-1])} and {names[-1]}, "
            + (f"not {' and '.join(given)}" if given else "but has none")
        )


LARGEST_BLOCK = 100
"""A stratified share is a fraction with a denominator up to this."""


def block_of(share: float) -> Fraction:
    """A stratified share as so many of a block of people: 0.15 is 3 of 20.

    Raises:
        ValueError: it is no fraction with a denominator up to :data:`LARGEST_BLOCK`.
    """
    fraction = Fraction(share).limit_denominator(LARGEST_BLOCK)
    if abs(float(fraction) - share) > 1e-12:
        raise ValueError(
            f"with strata it is so many of a block of at most {LARGEST_BLOCK} people, such "
            f"as 0.1, 0.15 or 0.125, which {share!r} is not"
        )
    return fraction


class HoldoutSpec(Strict):
    """The control group that is chosen but not texted, so that the effect can be measured.

    Only who is texted can refuse, and who refused is not chosen again: a draw that is kept loses
    people of one arm, campaign after campaign. So by default each week has its own.
    """

    share: float = Field(0.1, ge=0, lt=1, description="share of the chosen who are held out")
    namespace: Word = Field("global", description="campaigns of one namespace share their draw")
    epoch: Word = Field("1", description="another epoch draws the group again")
    rotate_days: PositiveInt | None = Field(
        7, description="the draw is made afresh every so many days; null: only with the epoch"
    )
    strata: list[Word] = Field(
        [], max_length=3, description="activity, tenure, user_type, or an attribute of the users"
    )

    @model_validator(mode="after")
    def _drawable(self) -> Self:
        if self.strata:
            try:
                block_of(self.share)
            except ValueError as error:
                raise key_error("share", str(error)) from None
        if len(set(self.strata)) < len(self.strata):
            raise key_error("strata", "names each of them once")
        return self

    @field_validator("namespace", "epoch", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


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


def _to_clock(value: Any) -> Any:
    """A time of day; YAML 1.1 reads 21:30 as the number 1290, in minutes."""
    if isinstance(value, time):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 60 <= value < 24 * 60:
        return time(value // 60, value % 60)
    if isinstance(value, str):
        try:
            clock = time.fromisoformat(value.strip())
        except ValueError:
            pass
        else:
            if clock.tzinfo is None and ":" in value:
                return clock
    raise ValueError(f"must be a time of day such as 08:00, not {str(value)!r}")


Clock = Annotated[time, BeforeValidator(_to_clock)]


class ContactSpec(BaseModel):
    """How often and when a campaign's people are contacted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, str_strip_whitespace=True)

    cap_messages: PositiveInt | None = Field(
        None, description="messages a person may have had in cap_days, of all campaigns"
    )
    cap_days: PositiveInt | None = Field(None, le=366, description="days that cap_messages counts")
    min_gap_hours: float | None = Field(
        None, ge=0, le=24 * 366, description="hours since a person's last message"
    )
    send_from: Clock | None = Field(None, description="no text before it, in recipients' own time")
    send_until: Clock | None = Field(None, description="no text from it on, in the same time")
    ignore_cap: bool = Field(
        False, description="codes and notifications: neither cap nor gap holds for them"
    )
    require_consent: Annotated[str, StringConstraints(pattern=r"^[^\s:,]{1,64}$")] | None = Field(
        None, description="population column or user attribute that must say true, 1 or yes"
    )
    max_audience_days: PositiveInt | None = Field(
        None, description="an audience decided longer ago than this is not sent to"
    )


class EffectSpec(Strict):
    """The outcome of a campaign, compared between those texted and the control group.

    A return is a behavior in [d + 1, d + return_days], where d is the execution date; with same_day
    one on d too. Keys that are not given are those of the algorithm (win-back), else 28 days and
    any behavior.
    """

    return_days: PositiveInt | None = Field(
        None, le=365, description="days after the execution date in which a return counts"
    )
    return_behaviors: list[str] | None = Field(
        None, min_length=1, description="behaviors that count as a return; null = any"
    )
    return_on_item: bool | None = Field(
        None, description="only behaviors on the row's item count as a return"
    )
    same_day: bool | None = Field(
        None,
        description="behavior on the execution date counts too, also what came before the text",
    )
    amount: str | None = Field(
        None, min_length=1, description="kvs_num key of behaviors whose sum is the value"
    )
    value_per_return: float | None = Field(
        None, gt=0, description="worth of one return, in currency; choosing by money needs it"
    )
    margin: float = Field(1.0, gt=0, le=1, description="share of the amount that is profit")
    pre_days: PositiveInt = Field(28, le=365, description="days before d, as covariates")
    looks: PositiveInt = Field(
        1,
        le=50,
        description="planned analyses of the effect; all but the last are interim",
    )
