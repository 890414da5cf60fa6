"""Digests of model files as they were registered, by MLflow run.

They stand here, and not only in MLflow: whoever can write into the artifact store or into MLflow's
database must not be able to change a model together with the digest it is checked against.
"""

from sqlalchemy import Connection, select

from usergrowth_dagster.control import audit
from usergrowth_dagster.control.schema import meta
from usergrowth_dagster.control.store import ControlStore

_DIGEST = "model_digest/{}"
_BEGUN = "model_digests/{}"


def read_digest(store: ControlStore, run_id: str) -> str:
    """The SHA-256 on record for the model of a run, or "" when there is none."""
    return _read(store, _DIGEST.format(run_id))


def keep_digest(store: ControlStore, run_id: str, digest: str) -> None:
    """Put a digest on record; one that is on record already stays as it is."""
    with store.write(alone=True) as connection:
        _add(connection, _DIGEST.format(run_id), digest)


def begun(store: ControlStore, name: str) -> bool:
    """Whether digests of a registered model have been kept since :func:`begin`."""
    return bool(_read(store, _BEGUN.format(name)))


def begin(store: ControlStore, name: str, digests: dict[str, str]) -> None:
    """Keep digests of a registered model from now on.

    Args:
        store: the control store.
        name: the registered model.
        digests: run id → digest of the versions that are older than this record.
    """
    with store.write(alone=True) as connection:
        if not _add(connection, _BEGUN.format(name), "kept"):
            return
        for run_id, digest in digests.items():
            _add(connection, _DIGEST.format(run_id), digest)
        if digests:
            audit.record(
                connection,
                audit.whoami(),
                "model",
                name,
                f"files of {len(digests)} earlier versions put on record as they are now",
            )


def _read(store: ControlStore, name: str) -> str:
    with store.read() as connection:
        return connection.scalar(select(meta.c.value).where(meta.c.name == name)) or ""


def _add(connection: Connection, name: str, value: str) -> bool:
    """Insert a row unless its name is taken; whether it was inserted."""
    if connection.scalar(select(meta.c.value).where(meta.c.name == name)) is not None:
        return False
    connection.execute(meta.insert().values(name=name, value=value))
    return True
