"""What a decision was made from, complete, kept in the very commit that wrote it.

A :class:`Provenance` names each data file that was read, with a hash of its content, each model
version with a hash of its files, and holds the campaign, the settings and the code that decided.
Who was excluded by the contact policy is kept as rows of a table of its own, since suppressions and
caps of today are others. Nothing here speaks of a person: the log of a table is never rewritten.

Scores have a provenance of their own, in the commit that wrote them, because features may be built
anew in between. Files are named by their paths below the storage root, so a home that is moved
keeps them.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from usergrowth_dagster.code_meaning import SHOWN, installed, source_hash
from usergrowth_dagster.control.codes import JobStatus
from usergrowth_dagster.control.tasks import Task, load_spec
from usergrowth_dagster.data.file_cache import cache_of
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.pipeline.choice import Choice
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.recorded import RecordedWarehouse
from usergrowth_dagster.warehouse.tables import Warehouse

if TYPE_CHECKING:
    from usergrowth_dagster.learning.store import ModelRef

EXCLUSIONS = "barred"
"""Table of the excluded rows of each decision.

Homes of before have it by this name, and their commits count its rows under the key ``barred``.
"""
EXCLUSION_COLUMNS = {"ds": "DATE", "task_id": "VARCHAR", "row": "BIGINT", "reason": "VARCHAR"}

_PLACES = (
    "home",
    "storage",
    "landing",
    "today",
    "engine",
    "spark_remote",
    "memory_limit",
    "threads",
    "database_url",
    "executor",
    "mlflow_artifacts",
    "s3_addressing",
    "cache_gb",
    "keep_days",
    "one_database",
)
_PLACE_WORDS = ("url", "uri", "endpoint", "gateway", "webhook", "port", "from", "callback")
_KEPT = ("send_from",)
_CODE = (
    "audience",
    "identity/persons.py",
    "identity/refusals.py",
    "learning",
    "messaging/texts",
    "pipeline/attributes.py",
    "pipeline/candidates.py",
    "pipeline/choice.py",
    "pipeline/decide.py",
    "pipeline/exclusions.py",
    "pipeline/inputs.py",
    "training/questions.py",
    "pipeline/score.py",
    "pipeline/scoring_rows.py",
    "pipeline/segment.py",
)
_BLOCK = 1 << 20


class _Note(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, serialize_by_alias=True
    )


class ModelProvenance(_Note):
    """A registered model version; ``digest`` is of its files, ``fingerprint`` of its inputs."""

    name: str
    version: int
    fingerprint: str
    digest: str


class ScoreProvenance(_Note):
    """What scores were made from; ``files`` are paths below the storage root and their SHA-256.

    ``level`` is the shift of the log-odds to the newest closed labels.
    """

    files: dict[str, str]
    versions: dict[str, int]
    models: dict[str, ModelProvenance]
    code: dict[str, str]
    level: float = 0.0


class Provenance(_Note):
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
        excluded: rows that the contact policy excluded.
        contact: the moment that the contact policy was asked about, and its rules.
        code: versions of code and libraries.
        marks: hashes of the parts that are not files: policy, holdout, template, price, settings.
        columns: those that the hash is over, in order.
        rows: rows of the decision.
        hash: of the decision, see :mod:`usergrowth_dagster.audience.hashing`.
        arms: rows by arm; empty for decisions from before this was kept.
        erased: of those, rows of persons who were forgotten since.
        segment: the snapshot of the campaign's segment; None where it has none.
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
    scored: ScoreProvenance | None
    choice: dict[str, Any]
    excluded: int = Field(alias=EXCLUSIONS)
    contact: dict[str, Any]
    code: dict[str, str]
    marks: dict[str, str]
    columns: list[str]
    rows: int
    hash: str
    arms: dict[str, int] = Field(default_factory=dict)
    erased: dict[str, int] = Field(default_factory=dict)
    segment: dict[str, str] | None = None


def read_provenance(warehouse: Warehouse, task_id: str) -> dict[date, Provenance]:
    """What a task's decisions that stand were made from, by date.

    Decisions from before this was kept are left out.
    """
    notes = warehouse.notes("decisions", {"task_id": task_id})
    required = {
        field.alias or name
        for name, field in Provenance.model_fields.items()
        if field.is_required()
    }
    return {
        day: Provenance.model_validate(note)
        for day, note in notes.items()
        if required <= note.keys()
    }


def recorded_files(warehouse: Warehouse) -> set[str]:
    """Data files that decisions which stand, or their scores, were made from.

    Replays need them; paths are below the storage root.
    """
    paths: set[str] = set()
    for table in ("decisions", "scores"):
        state = warehouse.state(table) if warehouse.exists(table) else None
        for scope in state.marks if state is not None else ():
            for note in warehouse.notes(table, json.loads(scope)).values():
                paths |= {*note.get("files", {}), *(note.get("scored") or {}).get("files", {})}
    return paths


def score_provenance(
    project: Project,
    task: Task,
    files: Iterable[str],
    models: Mapping[str, "ModelRef | None"],
    level: float = 0.0,
) -> ScoreProvenance:
    """What scores are made from, to be kept with them.

    Args:
        project: the home.
        task: the task.
        files: the data files of the population and the features.
        models: by what it says (``response``, ``uplift``), the version that scored.
        level: the shift of the response's log-odds.
    """
    read = [relative(project.warehouse.storage, path) for path in files]
    return ScoreProvenance(
        files=file_hashes(project, task, read),
        versions=table_versions(project.warehouse, read),
        models={
            kind: ModelProvenance(
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


def recorded_project(
    project: Project, provenance: Provenance, *, as_scored: bool = False
) -> Project:
    """The home with the data files and the settings that a decision was made from.

    Args:
        project: the home as it is.
        provenance: the provenance of the decision.
        as_scored: with the files that its scores were made from instead.
    """
    values = project.settings.model_dump() | {
        name: value for name, value in provenance.settings.items() if name in Settings.model_fields
    }
    then = Project(type(project.settings)(**values), project.progress)
    read = provenance.scored if as_scored and provenance.scored else provenance
    then.warehouse = RecordedWarehouse(project.warehouse.storage, read.files, read.versions)
    return then


def recorded_task(provenance: Provenance) -> Task:
    """The task as it was decided."""
    return Task(
        task_id=provenance.task_id,
        campaign=provenance.campaign,
        execution_date=provenance.execution_date,
        population=provenance.population,
        output=provenance.output,
        spec=load_spec(provenance.spec),
        status=JobStatus.SUCCESS,
        frozen=True,
    )


def choice_note(choice: Choice) -> dict[str, Any]:
    """A choice as JSON."""
    return {
        "policy": choice.policy.model_dump(mode="json"),
        "policy_hash": choice.policy.policy_hash,
        "holdout": choice.holdout.model_dump(mode="json"),
        "global_holdout": choice.global_holdout.model_dump(mode="json"),
        "note": choice.note,
    }


def part_hashes(
    spec: Mapping[str, Any], settings: Mapping[str, Any], choice: Choice
) -> dict[str, str]:
    """Hashes of what a decision was made from beside its files."""
    prices = {"sms": "message_price", "email": "email_price"}
    own = spec["channel"]
    variants = spec.get("template", {}).get("variants") or {}
    used = dict.fromkeys([own, *(one.get("channel") or own for one in variants.values())])
    texts = {name: spec[name] for name in ("template", "templates", "signature") if name in spec}
    chosen = choice_note(choice)
    parts: dict[str, Any] = {
        "policy": chosen["policy_hash"],
        "holdout": [chosen["holdout"], chosen["global_holdout"]],
        "template": [texts, settings.get("billing")],
        "price": [*(settings.get(prices[one]) for one in used), settings.get("currency")],
        "settings": [spec, settings],
    }
    return {name: _sha(value) for name, value in parts.items()}


def _sha(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]


def deciding_settings(settings: Settings) -> dict[str, Any]:
    """Every setting that says what is done; none that says where, and no address or password."""
    values = settings.model_dump(mode="json")
    return {
        name: value
        for name, value in values.items()
        if name in _KEPT
        or (
            name in Settings.model_fields  # not a gateway's
            and name not in _PLACES
            and not set(_PLACE_WORDS) & set(name.split("_"))
        )
    }


@cache
def code_version() -> dict[str, str]:
    """Versions of what decides: the package's own, a hash of its source, and libraries."""
    return {"source": source_hash(_CODE, without=SHOWN), **installed()}


def relative(storage: Storage, uri: str) -> str:
    """A data file's path below the storage root."""
    root = storage.uri().rstrip("/") + "/"
    return uri[len(root) :] if uri.startswith(root) else uri[uri.rindex("/tables/") + 1 :]


def table_of(path: str) -> str:
    """The table that a data file belongs to, by its path below the storage root."""
    return path.split("/")[1]


def file_hash(storage: Storage, path: str) -> str:
    """SHA-256 of a data file's content, as it is stored now."""
    with storage.open(path) as handle:
        return _digest(handle)


def file_hashes(project: Project, task: Task, paths: Iterable[str]) -> dict[str, str]:
    """SHA-256 by path of data files, without other tasks' files of the same day.

    Of files in an object store it is that of the copies, which are what the engine has read.
    """
    own = sorted(path for path in set(paths) if _is_of(path, task))
    uris = [project.warehouse.storage.uri(path) for path in own]
    copies = cache_of(project.settings)
    hashes = {}
    for path, place in zip(own, uris if copies is None else copies.local(uris), strict=True):
        with Path(place).open("rb") as handle:
            hashes[path] = _digest(handle)
    return hashes


def _digest(handle: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := handle.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def _is_of(path: str, task: Task) -> bool:
    scopes = [part for part in path.split("/") if part.startswith("task_id=")]
    return scopes in ([], [f"task_id={task.task_id}"])


def table_versions(warehouse: Warehouse, paths: Iterable[str]) -> dict[str, int]:
    """Newest Delta version of each table that some data files belong to."""
    newest = {name: warehouse.version(name) for name in sorted({table_of(p) for p in paths})}
    return {name: version for name, version in newest.items() if version is not None}
