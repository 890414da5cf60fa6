"""Registered model versions: which there are, which score today, and which wait for a person."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.project import Project
from usergrowth_dagster.training.models import settle_models
from usergrowth_dagster.training.reviews import require_model

if TYPE_CHECKING:
    from usergrowth_dagster.learning.store import ModelRef


@dataclass(frozen=True)
class ModelView:
    """A version, and whether it scores the current date."""

    ref: "ModelRef"
    scores_today: bool

    @property
    def reason(self) -> str:
        """Why it has its status: a person's words, the failed gates, or what it waits for."""
        ref = self.ref
        failed = f"failed: {', '.join(ref.failed_gates)}" if ref.failed_gates else ""
        return ref.why or failed or ref.held


@dataclass(frozen=True)
class WaitingView:
    """A campaign and the version that it waits for."""

    campaign: str
    model: str
    version: int

    @property
    def approval(self) -> str:
        """The command that approves the version."""
        return f"usergrowth models approve {self.model} {self.version}"


def read_models(project: Project, names: Sequence[str] | None = None) -> list[ModelView]:
    """Every version of some registered models, of all of them by default.

    Statuses that a person has set in MLflow's pages are taken over first.

    Raises:
        UserError: no model of one of the names, or MLflow cannot be used.
    """
    for name in names or ():
        require_model(name)
    from usergrowth_dagster.learning.problems import problems
    from usergrowth_dagster.learning.reviewing import newest_model
    from usergrowth_dagster.learning.store import versions

    today = project.settings.current_date()
    views = []
    for name in problems() if names is None else names:
        settle_models(project, name)
        refs = versions(project.settings, name)
        labels = {ref.config_hash for ref in refs}
        newest = [newest_model(project.settings, name, label, today) for label in labels]
        scoring = {ref.version for ref in newest if ref}
        views += [ModelView(ref, ref.version in scoring) for ref in refs]
    return views


@dataclass(frozen=True)
class ModelCardView:
    """A version and its model card in markdown; empty for one that has none."""

    ref: "ModelRef"
    card: str


@dataclass(frozen=True)
class ModelSummaryView:
    """A version and what its training measured, as it was logged."""

    ref: "ModelRef"
    summary: dict[str, Any]


def read_model_card(project: Project, name: str, version: int) -> ModelCardView:
    """A version and its model card.

    Raises:
        UserError: no such model or version.
    """
    from usergrowth_dagster.learning.artifacts import read_card

    ref = _version(project, name, version)
    return ModelCardView(ref, read_card(ref))


def read_model_summary(project: Project, name: str, version: int) -> ModelSummaryView:
    """A version and its figures.

    Raises:
        UserError: no such model or version, or its files are gone.
    """
    from usergrowth_dagster.learning.artifacts import read_artifacts

    ref = _version(project, name, version)
    return ModelSummaryView(ref, read_artifacts(ref)[0])


def _version(project: Project, name: str, version: int) -> "ModelRef":
    from usergrowth_dagster.learning.reviewing import get_version

    require_model(name)
    settle_models(project, name)
    return get_version(project.settings, name, version)


def read_waiting(project: Project) -> list[WaitingView]:
    """Campaigns whose newest version waits for a person's approval."""
    from usergrowth_dagster.training.train import waiting_campaigns

    return [
        WaitingView(campaign, ref.name, ref.version)
        for campaign, ref in waiting_campaigns(project, project.settings.current_date())
    ]
