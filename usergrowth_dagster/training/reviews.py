"""A person's word on model versions: approval, rejection, rollback, and what scores by it."""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.training.models import record_change, settle_models, vouch_for

if TYPE_CHECKING:
    from usergrowth_dagster.learning.reviewing import Change
    from usergrowth_dagster.learning.store import ModelRef


@dataclass(frozen=True)
class Reviewed:
    """A version after its review, and the version that scores its label on ``day`` now, if any."""

    ref: "ModelRef"
    scoring: "ModelRef | None"
    day: date


@dataclass(frozen=True)
class RolledBack:
    """A version that was retired, and the one that takes over."""

    ref: "ModelRef"
    heir: "ModelRef"


def require_model(name: str) -> None:
    """Refuse a name that no registered model has.

    Raises:
        UserError: names those that there are.
    """
    from usergrowth_dagster.learning.problems import problems

    if name not in problems():
        raise UserError(
            f"no model is called {name!r}; there are {', '.join(problems())}", code="model.unknown"
        )


def review_version(
    project: Project, name: str, version: int, *, approve: bool, actor: str, why: str
) -> Reviewed:
    """Approve or reject a version.

    Args:
        project: the home.
        name: of the model.
        version: its number.
        approve: whether it may score.
        actor: who decides.
        why: the reason, kept with the version.

    Raises:
        UserError: no such model or version, or a reason is needed.
    """
    from usergrowth_dagster.learning.reviewing import newest_model, review

    require_model(name)
    settle_models(project, name)
    change = review(project.settings, name, version, approve=approve, actor=actor, why=why)
    _record(project, change, actor)
    if approve:
        vouch_for(project, change.ref)
    day = project.settings.current_date()
    scoring = newest_model(project.settings, name, change.ref.config_hash, day)
    return Reviewed(change.ref, scoring, day)


def roll_back(
    project: Project, name: str, version: int | None, *, actor: str, why: str
) -> RolledBack:
    """Retire a version, so that the approved one before it scores again.

    Args:
        project: the home.
        name: of the model.
        version: its number; None: the version that scores.
        actor: who decides.
        why: the reason, kept with the version.

    Raises:
        UserError: no such model, no reason, or nothing that could be rolled back.
    """
    from usergrowth_dagster.learning.reviewing import rollback

    require_model(name)
    settle_models(project, name)
    change, heir = rollback(project.settings, name, version, actor=actor, why=why)
    _record(project, change, actor)
    return RolledBack(change.ref, heir)


def _record(project: Project, change: "Change", actor: str) -> None:
    if change.how != "unchanged":
        record_change(project.store, change, actor)
