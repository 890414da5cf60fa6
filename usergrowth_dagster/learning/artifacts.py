"""What a version left in MLflow's artifact store, read again: model, summary, pictures, card.

A hash of the files says whether they are still those that were registered.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.encoding import FeatureSpec
from usergrowth_dagster.learning.reference import Reference
from usergrowth_dagster.learning.store import ModelRef, open_client
from usergrowth_dagster.learning.trusted import load_trusted

if TYPE_CHECKING:
    from usergrowth_dagster.learning.model import CalibratedModel

_BLOCK = 1 << 20
_STAMPED = {"registered_model_meta"}
"""Written by MLflow beside a copy of the model, and no part of it."""

SPEC_FILE = "feature_spec.json"
REFERENCE_FILE = "drift_reference.json"  # beside the spec, in the folder of the model
CARD_FILE = "model_card.md"
SUMMARY_FILE = "summary.json"


class FilesGoneError(UserError):
    """A version's files are not in the artifact store any more."""


class FilesChangedError(UserError):
    """A version's files are not those that were registered, or nobody knows what those were."""


@dataclass(frozen=True)
class LoadedModel:
    """A version ready to score: the model, the features it takes, and those it was trained on."""

    ref: ModelRef
    model: "CalibratedModel"
    spec: FeatureSpec
    reference: Reference | None = None


def load(ref: ModelRef) -> LoadedModel:
    """Load a version's model, feature spec, and the training's histograms if it has them.

    The files are first held against the version's digest. Nothing of them is executed: neither
    MLflow nor the files themselves choose how they are loaded (:mod:`trusted`).

    Raises:
        FilesGoneError: its files are gone from the artifact store.
        FilesChangedError: its files are not those of its digest, or it has none.
        UserError: the artifact store cannot be read, or the file is none of ours.
    """
    with TemporaryDirectory(prefix="usergrowth-model-") as folder:
        path = _fetch(ref, "model", folder)
        _require_registered(ref, path)
        model = load_trusted(path, _called(ref))
        spec = FeatureSpec.model_validate_json((path / SPEC_FILE).read_text(encoding="utf-8"))
        drawn = path / REFERENCE_FILE
        text = drawn.read_text(encoding="utf-8") if drawn.exists() else None
        reference = Reference.model_validate_json(text) if text else None
    return LoadedModel(ref, model, spec, reference)


def _require_registered(ref: ModelRef, folder: Path) -> None:
    if not ref.digest:
        raise FilesChangedError(
            f"{_called(ref)}: no digest of its files is on record here, so it was registered by "
            "another home or by hand; nothing was loaded; if you know where it comes from, approve "
            f'it here: usergrowth models approve {ref.name} {ref.version} --why "…"',
            code="model.files_changed",
        )
    if folder_digest(folder) != ref.digest:
        raise FilesChangedError(
            f"{_called(ref)}: its files are not those that were registered; nothing was loaded; "
            "find out who can write MLflow's artifact store, then reject it (usergrowth models "
            f'reject {ref.name} {ref.version} --why "…") and train again (usergrowth train)',
            code="model.files_changed",
        )


def _called(ref: ModelRef) -> str:
    return f"model {ref.name} version {ref.version}"


def read_artifacts(ref: ModelRef) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A version's summary and its pictures, as logged at training.

    Raises:
        FilesGoneError: its files are gone from the artifact store.
        UserError: the artifact store cannot be read.
    """
    with TemporaryDirectory(prefix="usergrowth-model-") as folder:
        summary, pictures = (_fetch(ref, name, folder) for name in (SUMMARY_FILE, "figures"))
        figures = {p.stem: p.read_bytes() for p in sorted(pictures.glob("*.png"))}
        return json.loads(summary.read_text(encoding="utf-8")), figures


def read_card(ref: ModelRef) -> str:
    """A version's model card as it was written at training; empty for one without a card."""
    with TemporaryDirectory(prefix="usergrowth-model-") as folder:
        try:
            return _fetch(ref, CARD_FILE, folder).read_text(encoding="utf-8")
        except UserError:
            return ""


def _fetch(ref: ModelRef, name: str, folder: str) -> Path:
    """Download a file or folder of a version's run."""
    made = open_client(ref.tracking_uri)
    from mlflow.exceptions import MlflowException

    which = _called(ref)
    try:
        return Path(made.download_artifacts(ref.run_id, name, folder))
    except (MlflowException, OSError) as error:
        try:
            there = name in {one.path for one in made.list_artifacts(ref.run_id)}
        except (MlflowException, OSError):
            there = True
        if not there:
            raise FilesGoneError(
                f"{which}: its files are gone from MLflow; train again", code="model.files_gone"
            ) from None
        raise UserError(
            f"{which}: MLflow's artifact store cannot be read ({type(error).__name__}); look after "
            "it and try again",
            code="mlflow.unreachable",
        ) from None


def model_digest(ref: ModelRef) -> str:
    """SHA-256 over the paths and contents of a version's files.

    Raises:
        UserError: they are gone from the artifact store.
    """
    from mlflow.exceptions import MlflowException

    with TemporaryDirectory(prefix="usergrowth-model-") as folder:
        try:
            path = Path(
                open_client(ref.tracking_uri).download_artifacts(ref.run_id, "model", folder)
            )
        except (MlflowException, OSError) as error:
            raise UserError(
                f"model {ref.name} version {ref.version}: its files are gone from MLflow "
                f"({type(error).__name__})",
                code="model.files_gone",
            ) from None
        return folder_digest(path)


def folder_digest(folder: Path) -> str:
    """SHA-256 over the paths and contents of a folder's files."""
    digest = hashlib.sha256()
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in _STAMPED)
    for file in files:
        digest.update(f"{file.relative_to(folder).as_posix()}\n{file.stat().st_size}\n".encode())
        with file.open("rb") as handle:
            while block := handle.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()
