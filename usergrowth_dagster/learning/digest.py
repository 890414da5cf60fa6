"""A hash of a registered version's files: whether they are still those that scored."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.store import ModelRef, open_client

_BLOCK = 1 << 20
_STAMPED = {"registered_model_meta"}
"""Written by MLflow beside a copy of the model, and no part of it."""


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
