"""MLflow as the store of models: through one explicit client and explicit run ids.

No active run is ever opened, so nothing here can end or adopt another's run. A version is saved
with skops (no pickle is executed when it is loaded), logged under ``model`` of its run and
registered under the name of its question. What decides about it is in the
version's tags: ``algorithm, config_hash, last_label_day, fit_last_label_day, execution_date,
champion, status (approved | waiting_review | rejected | retired), gates, fingerprint``.
:mod:`usergrowth_dagster.learning.reviewing` describes how a person changes the status, with a
command or in MLflow's own pages.

MLflow's database names its files by absolute paths, and MLflow has no call that changes them. For a
home that was moved or copied they are changed in its tables.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from usergrowth_dagster.data.object_store import send_plainly
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.tracking import (
    reach_artifacts,
    require_reachable,
    set_defaults,
    told_in_a_sentence,
)
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.settings.databases import MLFLOW, make_schema
from usergrowth_dagster.settings.places import local_path, sqlite_file

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from sqlalchemy import ColumnClause, Connection

_NAMED = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)

Status = Literal["approved", "waiting_review", "rejected", "retired"]
ALIAS = "champion"
SET_TO = "champion_set_to"  # of the registered model: where the product last put the alias
DESCRIPTION_LENGTH = 5000  # of MLflow's column
DIGEST = "digest"  # of a version: SHA-256 of its files, see :mod:`artifacts`
SETTLED = "settled"  # of a version: the status that the product last knew of
KNOWN_BY = (  # tags without which a version says nothing
    *("config_hash", "last_label_day", "fit_last_label_day", "execution_date", "champion"),
    "fingerprint",
)
_log = logging.getLogger("usergrowth.learning")


@dataclass(frozen=True)
class ModelRef:
    """One registered version and the tags that decide about it.

    Attributes:
        name: registered model, such as ``churn``; ``version`` counts from 1.
        run_id: the MLflow run with its figures.
        config_hash: of the label, see :meth:`TrainingConfig.config_hash`.
        last_label_day: last day any of its labels looked at, test slice included.
        fit_last_label_day: last day a label it was fitted or calibrated on looked at.
        execution_date: the date it was trained at.
        champion: the kind of model: ``logistic``, ``lightgbm``, ``blend``, or a learner of uplift.
        status: ``approved``, ``waiting_review``, ``rejected`` or ``retired``.
        fingerprint: of everything it was made from.
        tracking_uri: the MLflow it lives in.
        gates: which gates it passed and failed, in words.
        reviewed_by: the person whose word its status is; empty when the gates alone decided.
        why: the reason that person gave.
        settled: the status the product last knew of; another one was set in MLflow's pages.
        reviewed_at: when that word was given, UTC; empty when the gates alone decided.
        held: why it had to wait for a person although the gates would have approved it and the job
            wants no review: the version that a person took back.
        digest: SHA-256 that its files must have to be loaded: MLflow's tag, or what the caller has
            on record instead; empty when there is none.
    """

    name: str
    version: int
    run_id: str
    config_hash: str
    last_label_day: date
    fit_last_label_day: date
    execution_date: date
    champion: str
    status: Status
    fingerprint: str
    tracking_uri: str
    gates: str = ""
    reviewed_by: str = ""
    why: str = ""
    settled: str = ""
    reviewed_at: str = ""
    held: str = ""
    digest: str = ""

    @property
    def failed_gates(self) -> list[str]:
        """Names of the gates it did not pass."""
        parts = self.gates.split("; ")
        return [part.removesuffix(" failed") for part in parts if part.endswith(" failed")]

    @property
    def uri(self) -> str:
        """The MLflow URI of this version."""
        return f"models:/{self.name}/{self.version}"


def client(settings: Settings) -> "MlflowClient":
    """The client of the configured MLflow; makes the local database and folders when missing.

    Processes that start at once wait for each other while the database is made.

    Raises:
        UserError: MLflow cannot be reached, or refuses.
    """
    uri = settings.tracking_uri
    require_reachable(uri)
    send_plainly(settings)
    reach_artifacts(settings.s3_endpoint, settings.s3_addressing)
    database = sqlite_file(uri)
    if database is not None:
        database.absolute().parent.mkdir(parents=True, exist_ok=True)
    with only_one(settings), told_in_a_sentence(uri):
        if settings.mlflow_tracking_uri is None and settings.one_database:
            _require_none_of_before(settings)
            make_schema(settings.database, MLFLOW)
        made = open_client(uri)
        # Opens the store, which makes its tables.
        experiments = made.search_experiments(max_results=20)
        places = [(one.name, one.artifact_location) for one in experiments]
        _follow_move(settings, places)
    return made


def _require_none_of_before(settings: Settings) -> None:
    """Refuse to begin with empty records where the home has others."""
    file = settings.home.absolute() / "mlflow" / "mlflow.db"
    if file.exists():
        raise UserError(
            f"setting 'one_database': this home has its models in {file}, and would not find them "
            "in the database; take the setting back, or move the file away to begin without models",
            code="setting.invalid",
        )


def open_client(uri: str) -> "MlflowClient":
    """A client of an MLflow that is known to be there."""
    set_defaults()
    from mlflow import MlflowClient

    # It tells of making its tables on the terminal, in the middle of a progress bar.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """Hold the home folder's MLflow lock; without file locks in the system, go on without."""
    folder = settings.home.absolute() / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # pragma: no cover - not on Linux or macOS
        yield
        return
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)


def experiment(made: "MlflowClient", settings: Settings, name: str) -> str:
    """Id of an experiment, made when missing; its files go below ``settings.artifacts_root``.

    A tracking server (http) decides itself where artifacts go.
    """
    with only_one(settings):
        known = made.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        place = None
        if not settings.tracking_uri.startswith(("http://", "https://", "databricks")):
            place = f"{settings.artifacts_root.rstrip('/')}/{name}"
            if (folder := local_path(place)) is not None:
                folder.mkdir(parents=True, exist_ok=True)
        return str(made.create_experiment(name, artifact_location=place))


def add_version(
    made: "MlflowClient",
    settings: Settings,
    name: str,
    run_id: str,
    tags: dict[str, str],
    description: str = "",
) -> ModelRef:
    """Register the ``model`` folder of a run as the next version of ``name``, with its tags.

    Args:
        made: by :func:`client`.
        settings: where MLflow is.
        name: the registered model, made when missing.
        run_id: of the run.
        tags: those that :class:`ModelRef` is made of.
        description: markdown that MLflow shows of the version; cut to 5,000 characters.
    """
    from mlflow.exceptions import MlflowException

    with only_one(settings):
        try:
            made.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    version = made.create_model_version(
        name,
        source=f"runs:/{run_id}/model",
        run_id=run_id,
        tags={**tags, SETTLED: tags["status"]},
        description=description[:DESCRIPTION_LENGTH],
    )
    ref = as_ref(made, version)
    if ref.status == "approved":
        move_alias(made, settings, ref)
    return ref


def versions(
    settings: Settings, name: str, *, tags: dict[str, str] | None = None
) -> list[ModelRef]:
    """All versions of a registered model with these tags, oldest first."""
    return read_versions(client(settings), name, tags=tags)


def read_versions(
    made: "MlflowClient", name: str, *, tags: dict[str, str] | None = None
) -> list[ModelRef]:
    """The same by a client that is open, as who holds :func:`only_one` has to ask.

    A version that lacks a tag it is known by is left out with a warning: somebody deleted it in
    MLflow's pages.
    """
    condition = f"name = '{name}'"
    listed: list[ModelVersion] = []
    token = None
    while True:
        page = made.search_model_versions(condition, max_results=500, page_token=token)
        listed += page
        token = page.token
        if not token:
            break
    wanted = (tags or {}).items()
    ours = []
    for version in listed:
        missing = [tag for tag in KNOWN_BY if tag not in version.tags]
        if missing and len(missing) < len(KNOWN_BY):
            _log.warning(
                "model %s version %s lacks the tag %s and is left out; set it again in MLflow",
                *(name, version.version, missing[0]),
            )
        if not missing and wanted <= version.tags.items():
            ours.append(as_ref(made, version))
    return sorted(ours, key=lambda ref: ref.version)


def move_alias(made: "MlflowClient", settings: Settings, ref: ModelRef) -> None:
    """Point ``champion`` at a version, unless it already points at one that learned later days."""
    from mlflow.exceptions import MlflowException

    with only_one(settings):
        try:
            held = made.get_model_version_by_alias(ref.name, ALIAS)
        except MlflowException:
            held = None
        if held is not None and set(KNOWN_BY) <= set(held.tags):
            other = as_ref(made, held)
            if other.status == "approved" and order(other) > order(ref):
                return
        set_alias(made, ref)


def set_alias(made: "MlflowClient", ref: ModelRef) -> None:
    """Point ``champion`` at a version and note it; to be called under :func:`only_one`.

    The note names the old place and the new one while the alias moves: a process that is killed on
    the way leaves no alias that a person would seem to have moved.
    """
    old = made.get_registered_model(ref.name).aliases.get(ALIAS, "")
    made.set_registered_model_tag(ref.name, SET_TO, f"{old},{ref.version}")
    made.set_registered_model_alias(ref.name, ALIAS, str(ref.version))
    made.set_registered_model_tag(ref.name, SET_TO, str(ref.version))


def order(ref: ModelRef) -> tuple[date, int]:
    """Versions of a label by what they learned, then by number."""
    return ref.last_label_day, ref.version


def as_ref(made: "MlflowClient", version: "ModelVersion") -> ModelRef:
    """A version of MLflow as this package speaks of it."""
    tags = version.tags
    return ModelRef(
        name=version.name,
        version=int(version.version),
        run_id=str(version.run_id),
        config_hash=tags["config_hash"],
        last_label_day=date.fromisoformat(tags["last_label_day"]),
        fit_last_label_day=date.fromisoformat(tags["fit_last_label_day"]),
        execution_date=date.fromisoformat(tags["execution_date"]),
        champion=tags["champion"],
        status=tags.get("status", "missing").strip().lower().replace(" ", "_"),
        fingerprint=tags["fingerprint"],
        tracking_uri=made.tracking_uri,
        gates=tags.get("gates", ""),
        reviewed_by=tags.get("reviewed_by", ""),
        why=tags.get("why", ""),
        settled=tags.get(SETTLED, ""),
        reviewed_at=tags.get("reviewed_at", ""),
        held=tags.get("held", ""),
        digest=tags.get(DIGEST, ""),
    )


def _follow_move(settings: Settings, experiments: Iterable[tuple[str, str]]) -> bool:
    """Let the home's own MLflow database name the files that lie in the home.

    Otherwise the models of a copied home would go into the original.

    Args:
        settings: of the home.
        experiments: name and artifact location of experiments, as the database has them.

    Returns:
        Whether something was changed.
    """
    own = settings.home.absolute() / "mlflow"
    database = sqlite_file(settings.tracking_uri)
    in_schema = settings.mlflow_tracking_uri is None and settings.one_database
    if not in_schema and (database is None or database.parent != own):
        return False
    moved = list(_moved(own / "artifacts", experiments))
    if not moved:
        return False
    from sqlalchemy import NullPool, create_engine

    engine = create_engine(settings.tracking_uri, poolclass=NullPool)
    with engine.begin() as connection:
        for table, column in _present(connection):
            for old, new in moved:
                _rename(connection, table, column, old, new)
    return True


def _rename(connection: "Connection", table: str, column: str, old: str, new: str) -> None:
    """Let a column begin with another location."""
    from sqlalchemy import bindparam, func, or_, update
    from sqlalchemy import column as column_named
    from sqlalchemy import table as table_named

    place: ColumnClause[str] = column_named(column)
    below = func.substr(place, 1, len(old) + 1) == f"{old}/"
    connection.execute(
        update(table_named(table, place))
        .where(or_(place == old, below))
        .values({column: bindparam("new", new).concat(func.substr(place, len(old) + 1))})
    )


def _moved(artifacts: Path, experiments: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Old and new location of the experiments that keep their files beside the database."""
    for _, location in experiments:
        old = local_path(location) if location.startswith("file:") else None
        # Only what we placed ourselves; a person's own folder stays where it is.
        if old is None or old.parent == artifacts or old.parts[-3:-1] != artifacts.parts[-2:]:
            continue
        here = artifacts / old.name
        if not (old.is_dir() and here.is_dir() and old.samefile(here)):  # one home, two names
            yield location, here.as_uri()


def _present(connection: "Connection") -> list[tuple[str, str]]:
    from sqlalchemy import inspect

    seen = inspect(connection)
    return [
        (table, column)
        for table, column in _NAMED
        if seen.has_table(table) and column in {one["name"] for one in seen.get_columns(table)}
    ]
