"""The campaign file: one YAML, one campaign, every key checked; and its JSON schema for editors.

The vendor's own job settings are understood too: ``training: {algorithm: sms_recall, op_target:
sms, start_date: "20220101", …}`` and ``selection: {percentage_threshold: 0.5, exe_date: …}``.

The schema is that of the pydantic models, with the forms that only YAML has: a bare algorithm, "on
upload", "now", and times without seconds or a zone. The vendor's settings have no place in it.
"""

import hashlib
import json
import re
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    PositiveInt,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from usergrowth_dagster.control.campaign_blocks import (
    CLICK,
    CampaignText,
    Channel,
    ContactSpec,
    EffectSpec,
    HoldoutSpec,
    ScheduleSpec,
    SelectionSpec,
    TemplateSpec,
)
from usergrowth_dagster.control.values import (
    FROM_FILE,
    NOW,
    ON_UPLOAD,
    Day,
    Execution,
    Folder,
    Name,
    Strict,
    key_error,
)
from usergrowth_dagster.learning.problems import any_block, campaign_kinds, problem_called
from usergrowth_dagster.learning.problems.base import Block
from usergrowth_dagster.yaml_file import explain, read_mapping, read_text

TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""A task id is a folder's name and part of table predicates, so it is kept plain."""
REPEATED_TASK_LENGTH = 55
"""Longest name of a task whose audience is decided again: ``-yyyymmdd`` is added each time."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FORMS: dict[str, dict[str, Any]] = {
    "date": {"type": ["string", "integer"], "pattern": r"^\d{4}-?\d{2}-?\d{2}$"},
    "date-time": {
        "type": "string",
        "pattern": r"^\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})?$",
    },
    "time": {"type": "string", "pattern": r"^\d{1,2}:\d{2}(:\d{2})?$"},
}
"""How each kind of time is written in a campaign file, by its name in JSON Schema."""


def _block_of(value: Any) -> Any:
    """A question that is given by its name alone, or by another of its names."""
    value = {"kind": value} if isinstance(value, str) else value
    if isinstance(value, dict) and value.get("kind") in campaign_kinds():
        return {**value, "kind": campaign_kinds()[value["kind"]]}
    return value


if TYPE_CHECKING:
    Algorithm = Block
else:
    Algorithm = Annotated[any_block(), BeforeValidator(_block_of)]


"""Which question the model answers about a user, with its settings."""


OF_SEGMENT = "segment"
"""First part of a population that is the snapshot of the campaign's segment; the second part is the
campaign's name, which is the id of its first task too."""

LANDING_FOLDERS = ("user", "item", "behavior", "operation", "identity", "population")
"""Folders below the landing root that are read; a test holds them against the contracts."""


class TrainingSpec(Strict):
    """Which snapshots a model learns from: fixed dates, or a window that rolls with the date."""

    start_date: Day | None = Field(None, description="first snapshot; with end_date")
    end_date: Day | None = Field(None, description="last snapshot; with start_date")
    window_days: PositiveInt | None = Field(
        None, le=1000, description="days before the execution date, instead of fixed dates"
    )
    every_days: PositiveInt = Field(7, le=90, description="days between churn snapshots")
    calibrate_from: Day | None = Field(
        None, description="first snapshot that calibrates; default: split by share"
    )
    test_from: Day | None = Field(
        None, description="first snapshot of the test slice; default: split by share"
    )
    require_review: bool = Field(
        False, description="a new version waits until a person approves it"
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        fixed = self.start_date is not None or self.end_date is not None
        if fixed == (self.window_days is not None):
            raise ValueError("give either start_date and end_date, or window_days")
        if not fixed:
            if self.calibrate_from or self.test_from:
                raise ValueError("calibrate_from and test_from need start_date and end_date")
            return self
        if self.start_date is None or self.end_date is None:
            raise ValueError("start_date and end_date belong together; give both")
        if self.start_date >= self.end_date:
            raise ValueError("start_date must be before end_date")
        order = [self.start_date, self.calibrate_from, self.test_from, self.end_date]
        given = [day for day in order if day is not None]
        if any(a >= b for a, b in pairwise(given)):
            raise ValueError("must rise: start_date < calibrate_from < test_from < end_date")
        return self


class SignatureSpec(Strict):
    """The sender's name, shown in 【】 before the text; its rules are checked in messaging."""

    name: Name = Field(min_length=1, max_length=64, description="shown in 【】; reviewed once")
    description: str = Field("", max_length=1000, description="for the reviewer")


class CampaignSpec(Strict):
    """One campaign, as its YAML file says it."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{2,30}$")] = Field(
        description="unique among campaigns; its records are found by it"
    )
    remark: str = Field("", description="for people")
    algorithm: Algorithm
    training: TrainingSpec
    population: Folder = Field(
        "",
        validate_default=True,
        description="upload folder below the landing root, such as population/spring or spring-*; "
        "without it the people are those of selection.segment",
    )
    execution_date: Execution
    selection: SelectionSpec
    holdout: HoldoutSpec = HoldoutSpec()
    channel: Channel = Field("sms", description="how people are contacted")
    signature: SignatureSpec
    template: TemplateSpec
    schedule: ScheduleSpec
    contact: ContactSpec = ContactSpec()
    effect: EffectSpec = EffectSpec()
    output: Folder | None = Field(
        None, description="folder of output.csv; default population_output/{task}"
    )

    @model_validator(mode="before")
    @classmethod
    def _vendor(cls, value: Any) -> Any:
        return _with_population(_from_vendor(value)) if isinstance(value, dict) else value

    @field_validator("population", mode="before")
    @classmethod
    def _given(cls, value: Any) -> Any:
        if value in (None, ""):
            raise ValueError(
                "is missing: name an upload folder such as population/spring, or leave it out and "
                "name a segment at selection.segment"
            )
        return value

    @field_validator("population")
    @classmethod
    def _glob_last(cls, value: str) -> str:
        head, _, last = value.rpartition("/")
        if head not in ("population", OF_SEGMENT):
            raise ValueError("must be population/<task>, such as population/spring or spring-*")
        if not TASK_ID.fullmatch(last.replace("*", "x")):
            raise ValueError("the last part names the task: up to 64 of A-Z a-z 0-9 _ and -")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        kind = self.algorithm.kind
        if problem_called(kind).promotions_only and self.template.type != "promotion":
            raise ValueError(f"template.type: a {kind} campaign needs a promotion template")
        self._check_threshold()
        self._check_segment()
        for text in self.template.texts:
            if text.subject is not None and self.channel_of(text) != "email":
                raise key_error(f"{text.key}.subject", "only an e-mail has one; remove it")
        if self.selection.money is not None and self.effect.value_per_return is None:
            raise key_error(
                "effect.value_per_return", "selection.money needs the worth of a return"
            )
        if self.contact.ignore_cap and self.template.type == "promotion":
            raise ValueError(
                "contact.ignore_cap: only codes and notifications may ignore caps, not promotions"
            )
        if self.output and self.output.split("/")[0].casefold() in LANDING_FOLDERS:
            raise key_error(
                "output",
                f"{self.output!r} lies among the landing files, which would be read as data; "
                "choose another folder, such as population_output/{task}",
            )
        if self.output and self.is_glob and "{task}" not in self.output:
            raise ValueError(
                "output: a population with '*' has many tasks, so the output folder must "
                "hold {task}, such as population_output/{task}"
            )
        self._check_schedule()
        self._check_returns_of_links()
        return self

    def _check_threshold(self) -> None:
        """A threshold is a probability, so a score that is an amount has none."""
        chosen = {"selection": self.selection, "selection.fallback": self.selection.fallback}
        for key, policy in chosen.items():
            if (
                policy is not None
                and policy.threshold is not None
                and problem_called(self.algorithm.kind).amounts
            ):
                raise key_error(
                    f"{key}.threshold",
                    f"the score of a {self.algorithm.kind} campaign is an amount, and a threshold "
                    "is a probability; use top_n, budget or money",
                )

    def _check_segment(self) -> None:
        """A campaign on a segment's snapshot names its first day, and no upload."""
        if not self.of_segment:
            return
        if self.population != f"{OF_SEGMENT}/{self.name}" or self.selection.segment is None:
            raise key_error(
                "population",
                "must be population/<task>, such as population/spring; to text the people of a "
                "segment leave it out and name the segment at selection.segment",
            )
        if self.on_upload:
            raise key_error(
                "execution_date",
                "the people of a segment are not uploaded: name the first day, and with "
                "schedule.repeat_unit and refresh_audience each further one is decided anew",
            )

    def _check_returns_of_links(self) -> None:
        """A click lands as behavior, and only people who are texted can click.

        If any behavior were a return, each click would count as an effect of the text.
        """
        if not any(text.link for text in self.template.texts):
            return
        learned = getattr(self.algorithm, "return_behaviors", ())
        counted = self.effect.return_behaviors
        for key, kinds in (
            ("algorithm.return_behaviors", learned),
            ("effect.return_behaviors", learned if counted is None else counted),
        ):
            if kinds is None or (not kinds and key.startswith("effect")):
                raise key_error(
                    key,
                    "name the behaviors that count, such as [buy]: the text has a link, a click on "
                    "it is behavior too, and the control group cannot click",
                )
            if CLICK in kinds:
                raise key_error(
                    key, f"{CLICK!r} is no return: the control group gets no link to click on"
                )

    def _check_schedule(self) -> None:
        plan, day = self.schedule, self.execution_date
        if isinstance(day, date):
            if plan.smart_send and plan.smart_send.start_date < day:
                raise key_error(
                    "schedule.smart_send.start_date", f"must not be before the execution_date {day}"
                )
            start = plan.execute_time
            if isinstance(start, datetime) and start.tzinfo is None and start.date() < day:
                raise key_error(
                    "schedule.execute_time", f"must not be before the execution_date {day}"
                )
        if not plan.refresh_audience:
            return
        if self.output and "{task}" not in self.output:
            raise key_error(
                "output",
                "with schedule.refresh_audience each occurrence has a task and a folder of its "
                "own, so it must hold {task}, such as population_output/{task}",
            )
        if not self.is_glob and len(self.population.rpartition("/")[2]) > REPEATED_TASK_LENGTH:
            raise key_error(
                "population",
                f"with schedule.refresh_audience the task's name may have {REPEATED_TASK_LENGTH} "
                "characters: the date of each occurrence is added to it",
            )

    def channel_of(self, text: CampaignText) -> Channel:
        """The channel by which a text of the campaign goes."""
        return text.channel or self.channel

    @property
    def channel_by_text(self) -> dict[str, Channel]:
        """The channel of each text, by the name of the text."""
        return {text.name: self.channel_of(text) for text in self.template.texts}

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels of its texts, each once; the campaign's channel stands first."""
        return tuple(dict.fromkeys(self.channel_by_text.values()))

    @property
    def on_upload(self) -> bool:
        """Whether a task runs on the day that its population arrives."""
        return self.execution_date == ON_UPLOAD

    @property
    def of_segment(self) -> bool:
        """Whether the population is the snapshot of a segment, and not an upload."""
        return self.population.startswith(f"{OF_SEGMENT}/")

    @property
    def is_glob(self) -> bool:
        """Whether the population stands for several upload folders."""
        return "*" in self.population

    @property
    def digest(self) -> str:
        """Hash of every setting (hex): changes when any of them does."""
        return spec_digest(self.model_dump(mode="json"))

    def output_of(self, task_id: str) -> str:
        """Output folder of a task, below the landing root."""
        return (self.output or "population_output/{task}").replace("{task}", task_id)


def spec_digest(spec: dict[str, Any]) -> str:
    """Hash (hex) of a campaign's JSON form."""
    text = json.dumps(spec, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def parse_campaign(text: str, source: str = "campaign") -> CampaignSpec:
    """A campaign from YAML text.

    Raises:
        UserError: one sentence with ``source``, line and column or key path, and the rule.
    """
    try:
        return CampaignSpec.model_validate(read_mapping(text, source), context=FROM_FILE)
    except ValidationError as error:
        raise explain(error, CampaignSpec, source) from None


def load_campaign(path: Path | str) -> CampaignSpec:
    """A campaign from a YAML file; errors as in :func:`parse_campaign`."""
    return parse_campaign(read_text(Path(path)), str(path))


def _with_population(spec: dict[str, Any]) -> dict[str, Any]:
    """The population of a campaign that names a segment and no upload."""
    selection, name = spec.get("selection"), spec.get("name")
    if spec.get("population") is not None or not isinstance(selection, dict):
        return spec
    if selection.get("segment") is None or not isinstance(name, str):
        return spec
    return {**spec, "population": f"{OF_SEGMENT}/{name.strip()}"}


def _from_vendor(spec: dict[str, Any]) -> dict[str, Any]:
    """The vendor's job settings in our places; a place that is already taken is an error."""
    spec = dict(spec)

    def take(section: str, key: str) -> Any:
        block = spec.get(section)
        if not isinstance(block, dict) or key not in block:
            return None
        spec[section] = {name: value for name, value in block.items() if name != key}
        return block[key]

    def put(target: str, value: Any, origin: str) -> None:
        if value is None:
            return
        if target in spec:
            raise ValueError(f"{origin} and {target} say the same; keep one")
        spec[target] = value

    put("algorithm", take("training", "algorithm"), "training.algorithm")
    put("execution_date", take("selection", "exe_date"), "selection.exe_date")
    target = take("training", "op_target")
    if target is not None:
        named = spec.get("algorithm")
        spec["algorithm"] = {**({"kind": named} if isinstance(named, str) else named or {})}
        if spec["algorithm"].setdefault("op_target", target) != target:
            raise ValueError("training.op_target and algorithm.op_target differ; keep one")
    threshold = take("selection", "percentage_threshold")
    if threshold is not None:
        if "threshold" in spec["selection"]:
            raise ValueError("selection.percentage_threshold and threshold: keep one")
        spec["selection"]["threshold"] = threshold
    return spec


def campaign_schema() -> dict[str, Any]:
    """The schema (JSON Schema 2020-12) of a campaign file."""
    schema = _as_written(CampaignSpec.model_json_schema())
    keys = schema["properties"]
    keys["execution_date"] = {
        "description": f'a day, or "{ON_UPLOAD}": each new upload by itself',
        "anyOf": [FORMS["date"], {"const": ON_UPLOAD}],
    }
    keys["algorithm"] = {
        "description": "which question the model answers; its kind alone is enough",
        "anyOf": [{"type": "string"}, keys["algorithm"]],
    }
    del keys["population"]["default"]
    of_segment = {"properties": {"selection": {"required": ["segment"]}}}
    schema["anyOf"] = [{"required": ["population"]}, of_segment]
    schema["$defs"]["HoldoutSpec"]["properties"]["epoch"]["type"] = ["string", "integer"]
    start = schema["$defs"]["ScheduleSpec"]["properties"]["execute_time"]
    start["anyOf"] = [{"const": NOW}, *(form for form in start["anyOf"] if "const" not in form)]
    return {"$schema": DIALECT, **schema, "title": "usergrowth campaign"}


def _as_written(part: Any) -> Any:
    """A part of the schema without generated titles, and with times as YAML files have them."""
    if isinstance(part, list):
        return [_as_written(one) for one in part]
    if not isinstance(part, dict):
        return part
    if "format" in part:
        rest = {name: value for name, value in part.items() if name != "format"}
        return rest | FORMS[part["format"]]
    kept = (pair for pair in part.items() if not (pair[0] == "title" and isinstance(pair[1], str)))
    return {name: _as_written(value) for name, value in kept}
