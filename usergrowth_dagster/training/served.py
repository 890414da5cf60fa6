"""Which versions a service of a question holds: the champion, and a challenger in its shadow."""

from dataclasses import replace
from typing import TYPE_CHECKING

from usergrowth_dagster.control.model_digests import read_digest
from usergrowth_dagster.project import Project
from usergrowth_dagster.training.models import settle_models

if TYPE_CHECKING:
    from usergrowth_dagster.learning.store import ModelRef

CHALLENGER = "challenger"


def registered_names(project: Project) -> list[str]:
    """The questions that have a registered model, in order."""
    from usergrowth_dagster.learning.problems import problems
    from usergrowth_dagster.learning.store import client

    made = client(project.settings).search_registered_models(max_results=1000)
    return sorted({model.name for model in made} & set(problems()))


def champion(project: Project, name: str) -> "ModelRef | None":
    """The approved version that the alias ``champion`` points at, with the digest on record here.

    Raises:
        UserError: MLflow cannot be reached.
    """
    from usergrowth_dagster.learning.store import ALIAS

    settle_models(project, name)
    ref = _aliased(project, name, ALIAS)
    if ref is None or ref.status != "approved":
        return None
    return replace(ref, digest=read_digest(project.store, ref.run_id))


def is_approved(project: Project, name: str, version: int) -> bool:
    """Whether a version may still score."""
    from usergrowth_dagster.learning.store import versions

    known = versions(project.settings, name)
    return any(ref.version == version and ref.status == "approved" for ref in known)


def challenger(project: Project, name: str, served: "ModelRef") -> "ModelRef | None":
    """The version that answers in the champion's shadow; None where there is none.

    It is the one that the alias ``challenger`` points at, else the newest version of the champion's
    label that waits for review and learned later days.

    Args:
        project: the home.
        name: the question.
        served: its champion.
    """
    from usergrowth_dagster.learning.store import order, versions

    ref = _aliased(project, name, CHALLENGER)
    if ref is None:
        label = {"config_hash": served.config_hash}
        waiting = [
            one
            for one in versions(project.settings, name, tags=label)
            if one.status == "waiting_review" and order(one) > order(served)
        ]
        ref = max(waiting, key=order, default=None)
    if ref is None or ref.version == served.version:
        return None
    return replace(ref, digest=read_digest(project.store, ref.run_id))


def _aliased(project: Project, name: str, alias: str) -> "ModelRef | None":
    """The version that an alias points at, if there is one and its tags are whole."""
    from mlflow.exceptions import MlflowException

    from usergrowth_dagster.learning.store import KNOWN_BY, as_ref, client

    made = client(project.settings)
    try:
        version = made.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return as_ref(made, version) if set(KNOWN_BY) <= set(version.tags) else None
