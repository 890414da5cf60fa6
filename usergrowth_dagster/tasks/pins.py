"""What a decision was made from, complete, kept in the very commit that wrote it.

A :class:`Pins` names each data file that was read, with a hash of its content, each model version
with a hash of its files, and holds the campaign, the settings and the code that decided. Who was
barred by the contact policy is kept as rows of the table ``barred``, since suppressions and caps of
today are others. Nothing here speaks of a person: the log of a table is never rewritten.

Scores are pinned by the commit that wrote them, because features may be built anew in between.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from usergrowth_dagster.audience.decisions import DECISION_COLUMNS
from usergrowth_dagster.audience.hashing import relation_hash
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.tasks.choice import Choice, choice_of, scored_by_uplift
from usergrowth_dagster.tasks.people import contact_moment, rules_of
from usergrowth_dagster.tasks.project import Project
from usergrowth_dagster.tasks.provenance import (
    code_version,
    file_hash,
    is_of,
    pinned_settings,
    read_files,
    read_versions,
    relative,
)
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.tables import Warehouse

if TYPE_CHECKING:
    import pyarrow as pa

    from usergrowth_dagster.learning.store import ModelRef

BARRED = "barred"
BARRED_COLUMNS = {"ds": "DATE", "task_id": "VARCHAR", "row": "BIGINT", "reason": "VARCHAR"}


class _Pinned(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ModelPin(_Pinned):
    """A registered model version; ``digest`` is of its files, ``fingerprint`` of its inputs."""

    name: str
    version: int
    fingerprint: str
    digest: str


class ScorePins(_Pinned):
    """What scores were made from; ``files`` are paths below the storage root and their SHA-256.

    ``level`` is the shift of the log-odds to the newest closed labels.
    """

    files: dict[str, str]
    versions: dict[str, int]
    models: dict[str, ModelPin]
    code: dict[str, str]
    level: float = 0.0


class Pins(_Pinned):
    """What a decision was made from, and its hash.

    Attributes:
        task_id: the task.
        campaign: its campaign.
        execution_date: its date.
        population: folder of the upload.
        output: folder of the result.
        spec: the campaign's settings, as JSON.
        settings: the product's settings, but for places and passwords.
        files: by path below the storage root, the SHA-256 of each data file that was read.
        versions: newest Delta version of each table that was read, at that time.
        scored: what the scores were made from; None for scores from before this was kept.
        choice: the policy and the control groups in force, and a sentence when a fallback decided.
        barred: rows that the contact policy barred.
        contact: the moment that the contact policy was asked about, and its rules.
        code: versions of code and libraries.
        marks: hashes of the parts that are not files: policy, holdout, template, price, settings.
        columns: those that the hash is over, in order.
        rows: rows of the decision.
        hash: of the decision, see :mod:`usergrowth_dagster.audience.hashing`.
        arms: rows by arm; empty for decisions from before this was kept.
        erased: of those, rows of persons who were forgotten since.
    """

    task_id: str
    campaign: str
    execution_date: date
    population: str
    output: str
    spec: dict[str, Any]
    settings: dict[str, Any]
    files: dict[str, str]
    versions: dict[str, int]
    scored: ScorePins | None
    choice: dict[str, Any]
    barred: int
    contact: dict[str, Any]
    code: dict[str, str]
    marks: dict[str, str]
    columns: list[str]
    rows: int
    hash: str
    arms: dict[str, int] = Field(default_factory=dict)
    erased: dict[str, int] = Field(default_factory=dict)


def pin_scores(
    engine: Engine,
    project: Project,
    task: Task,
    models: Mapping[str, "ModelRef | None"],
    level: float = 0.0,
) -> dict[str, Any]:
    """The note of a commit of scores.

    Args:
        engine: read the population and the features; nothing else has been bound in it.
        project: the home.
        task: the task.
        models: by what it says (``response``, ``uplift``), the version that scored.
        level: the shift of the response's log-odds.
    """
    pins = ScorePins(
        files=read_files(engine, project, task.task_id),
        versions=read_versions(project, engine),
        models={
            kind: ModelPin(
                name=ref.name,
                version=ref.version,
                fingerprint=ref.fingerprint,
                digest=ref.digest,
            )
            for kind, ref in models.items()
            if ref is not None
        },
        level=level,
        code=code_version(),
    )
    return pins.model_dump(mode="json")


def pin_decision(
    engine: Engine, project: Project, task: Task, decided: "pa.Table"
) -> dict[str, Any]:
    """The note of a decision's commit; writes the rows that were barred.

    Args:
        engine: the one that decided; the table ``barred`` is in it.
        project: the home.
        task: the task as it was decided.
        decided: the decision.
    """
    barred_files, barred = _keep_barred(engine, project, task)
    day = task.execution_date
    scope = {"task_id": task.task_id}
    scores = project.warehouse.notes("scores", scope, first=day, last=day).get(day)
    columns = [name for name in DECISION_COLUMNS if name in decided.column_names]
    engine.bind_arrow("_pinned", decided)
    digest, rows = relation_hash(engine, "_pinned", columns)
    settings = pinned_settings(project.settings)
    spec = task.spec.model_dump(mode="json")
    choice = choice_of(project.settings, task, by_uplift=scored_by_uplift(engine))
    pins = Pins(
        task_id=task.task_id,
        campaign=task.campaign,
        execution_date=task.execution_date,
        population=task.population,
        output=task.output,
        spec=spec,
        settings=settings,
        files=read_files(engine, project, task.task_id) | barred_files,
        versions=read_versions(project, engine) | _told_versions(engine),
        scored=ScorePins.model_validate(scores) if scores else None,
        choice=choice_note(choice),
        barred=barred,
        contact={
            "moment": contact_moment(project.settings, task).isoformat(),
            "rules": {k: str(v) for k, v in asdict(rules_of(project.settings, task)).items()},
        },
        code=code_version(),
        marks=part_marks(spec, settings, choice),
        columns=columns,
        rows=rows,
        hash=digest,
        arms=dict(engine.rows("select arm, count(*) from _pinned group by arm order by arm")),
    )
    engine.run("drop table _pinned")
    return pins.model_dump(mode="json")


def read_pins(warehouse: Warehouse, task_id: str) -> dict[date, Pins]:
    """What a task's decisions that stand were made from, by date."""
    notes = warehouse.notes("decisions", {"task_id": task_id})
    whole = {name for name, field in Pins.model_fields.items() if field.is_required()}
    return {day: Pins.model_validate(note) for day, note in notes.items() if whole <= note.keys()}


def choice_note(choice: Choice) -> dict[str, Any]:
    """A choice as JSON."""
    return {
        "policy": choice.policy.model_dump(mode="json"),
        "policy_hash": choice.policy.policy_hash,
        "holdout": choice.holdout.model_dump(mode="json"),
        "global_holdout": choice.global_holdout.model_dump(mode="json"),
        "note": choice.note,
    }


def part_marks(
    spec: Mapping[str, Any], settings: Mapping[str, Any], choice: Choice
) -> dict[str, str]:
    """Hashes of what a decision was made from beside its files."""
    price = "email_price" if spec["channel"] == "email" else "message_price"
    texts = {name: spec[name] for name in ("template", "templates", "signature") if name in spec}
    told = choice_note(choice)
    parts: dict[str, Any] = {
        "policy": told["policy_hash"],
        "holdout": [told["holdout"], told["global_holdout"]],
        "template": [texts, settings.get("billing")],
        "price": [settings.get(price), settings.get("currency")],
        "settings": [spec, settings],
    }
    return {name: _sha(value) for name, value in parts.items()}


def _told_versions(engine: Engine) -> dict[str, int]:
    """The table versions that the decision's own rows tell."""
    names = {"population": "population_version", "user_features": "feature_version"}
    told = ", ".join(f"any_value({column})" for column in names.values())
    found = engine.rows(f"select {told} from _pinned")[0]
    return {name: int(v) for name, v in zip(names, found, strict=True) if v is not None}


def _keep_barred(engine: Engine, project: Project, task: Task) -> tuple[dict[str, str], int]:
    """Write the barred rows of a task; their files with hashes, and how many rows they are."""
    rows = int(engine.value("select count(*) from barred"))
    warehouse, day = project.warehouse, task.execution_date
    if not rows and not warehouse.exists(BARRED):
        return {}, 0
    commit = warehouse.replace(
        BARRED,
        engine.arrow(
            f"select date '{day}' as ds, '{task.task_id}' as task_id, \"row\", reason "
            'from barred order by "row"'
        ),
        days=[day],
        scope={"task_id": task.task_id},
    )
    landed = warehouse.files(BARRED, first=day, last=day, version=commit.version)
    paths = (relative(warehouse.storage, uri) for uri in landed.get(day, []))
    mine = [path for path in paths if is_of(path, task.task_id)]
    return {path: file_hash(warehouse.storage, path) for path in mine}, rows


def _sha(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]
