"""The file ``acquisition.yml``: which devices are bid for, and how exchanges ask.

    salt: spring-2024
    ids: {idfa: idfa, oaid: oaid, imei_md5: {kind: imei, hashed: true}}
    active_days: 30
    score: {question: winback}
    control: {share: 0.05, answer: reject}
    strategies:
      - {name: newcomers, device: unknown, on_failure: accept}
      - {name: lapsed, device: known, active: false, score_at_least: 0.2, factor: 1.5}
    experiments: {"101": [newcomers], "102": [newcomers, lapsed]}

The classes here are the format.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from usergrowth_dagster.acquisition.devices import Kind
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.yaml_file import explain, read_mapping, read_text

FILE_NAME = "acquisition.yml"
"""File of a home with its strategies of acquisition."""

Outcome = Literal["accept", "reject"]
_NAME = r"^[A-Za-z0-9_-]{1,32}$"


class Keys(BaseModel):
    """A group of keys; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class IdForm(Keys):
    """How a type of ids of the landing table identity is an id of a device."""

    kind: Kind = Field(description="the kind that exchanges know it by")
    hashed: bool = Field(False, description="whether its values are MD5 already, as exchanges hash")


def _as_form(given: Any) -> Any:
    return {"kind": given} if isinstance(given, str) else given


Form = Annotated[IdForm, BeforeValidator(_as_form, json_schema_input_type=Kind | IdForm)]
"""An :class:`IdForm`, or the kind alone of ids that are plain."""


class Score(Keys):
    """Where a device's score comes from: its user's, the highest of several users'."""

    question: str = Field(description="question whose model scored the user, such as winback")
    max_age_days: int = Field(
        7, ge=0, le=365, description="days that scores may be older than the snapshot"
    )


class Control(Keys):
    """Devices that are kept from the strategies, by a hash of their id and the salt."""

    share: float = Field(0.0, ge=0, le=0.5, description="share of the devices; 0: none")
    answer: Outcome = Field(
        "reject",
        description="reject measures what the ads bring; accept measures what choosing brings",
    )


class Cache(Keys):
    """How long an exchange may repeat an answer without asking; seconds, up to seven days."""

    accept_seconds: int = Field(600, ge=0, le=604_800, description="of an acceptance")
    reject_seconds: int = Field(3_600, ge=0, le=604_800, description="of a rejection")


class Cap(Keys):
    """How often a device is accepted."""

    times: int = Field(ge=1, le=1_000, description="acceptances of a device in a window")
    seconds: int = Field(ge=1, le=604_800, description="length of a window; it starts at 0 UTC")


class Strategy(Keys):
    """Conditions that a device must all meet, and what an exchange learns when it does."""

    name: str = Field(pattern=_NAME, description="in reports and logs")
    target: str = Field(
        "", pattern=r"^[\x21-\x7e]{0,32}$", description="the exchange's id of it; default: name"
    )
    device: Literal["any", "known", "unknown"] = Field(
        "any", description="whether the snapshot knows the device"
    )
    active: bool | None = Field(
        None, description="false: not of a user who was active lately; true: only of such"
    )
    score_at_least: float | None = Field(None, description="cut of the score; others are rejected")
    at_most: Cap | None = Field(None, description="default: no limit")
    factor: float | None = Field(
        None, gt=0, le=100, description="by which the bid is multiplied; default: not named"
    )
    on_failure: Outcome = Field(
        "reject", description="what holds when a condition cannot be looked up"
    )

    @property
    def id(self) -> str:
        """The exchange's id of it."""
        return self.target or self.name

    @property
    def looks_up(self) -> bool:
        """Whether it needs the snapshot."""
        conditions = (self.active, self.score_at_least)
        return self.device != "any" or any(one is not None for one in conditions)

    @model_validator(mode="after")
    def _can_be_met(self) -> "Strategy":
        if self.device == "unknown" and (self.active or self.score_at_least is not None):
            raise ValueError("an unknown device has no user and no score; none would meet it")
        return self


class Log(Keys):
    """Which decisions are kept for reports."""

    share: float = Field(
        1.0, ge=0, le=1, description="share of the devices whose decisions are kept; 0: none"
    )


class Acquisition(Keys):
    """The whole file."""

    salt: str = Field(
        min_length=1, max_length=100, description="another one draws another control group"
    )
    ids: Mapping[str, Form] = Field(
        min_length=1, description="by type of the landing table identity, the kind of device id"
    )
    active_days: int = Field(
        30, ge=1, le=3650, description="days before the date in which an active user did something"
    )
    active_segment: str | None = Field(
        None,
        description="segment whose newest snapshot holds the active users, in place of active_days",
    )
    score: Score | None = Field(None, description="default: no device has a score")
    stale_after_days: int = Field(
        3, ge=1, le=90, description="age from which a snapshot counts as none"
    )
    control: Control = Control()
    cache: Cache = Cache()
    log: Log = Log()
    strategies: tuple[Strategy, ...] = Field(min_length=1, max_length=100)
    experiments: Mapping[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="by id of the exchange's experiment, the names of its strategies; any other "
        "request has all",
    )

    @model_validator(mode="after")
    def _names_fit(self) -> "Acquisition":
        for what in ("name", "id"):
            values = [getattr(one, what) for one in self.strategies]
            for value in values:
                if values.count(value) > 1:
                    raise ValueError(f"two strategies have the {what} {value!r}; give each its own")
        known = {one.name for one in self.strategies}
        for experiment, names in self.experiments.items():
            if unknown := sorted(set(names) - known):
                raise ValueError(f"experiment {experiment}: there is no strategy {unknown[0]!r}")
        if self.score is None and any(one.score_at_least is not None for one in self.strategies):
            raise ValueError("score_at_least needs the key score, which says where scores are from")
        return self


def read_acquisition(path: Path) -> Acquisition:
    """What a file says.

    Raises:
        UserError: it is missing or breaks its format; names the key path and the rule.
    """
    try:
        return Acquisition.model_validate(read_mapping(read_text(path), str(path)))
    except ValidationError as error:
        raise UserError(
            str(explain(error, Acquisition, str(path))), code="acquisition.invalid"
        ) from None
