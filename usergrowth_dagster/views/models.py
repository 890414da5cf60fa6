"""Registered model versions: which there are, which score today, and which wait for a person."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usergrowth_dagster.project import Project
from usergrowth_dagster.training.models import settle_models

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
        UserError: MLflow cannot be used.
    """
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


def read_waiting(project: Project) -> list[WaitingView]:
    """Campaigns whose newest version waits for a person's approval."""
    from usergrowth_dagster.training.train import waiting_campaigns

    return [
        WaitingView(campaign, ref.name, ref.version)
        for campaign, ref in waiting_campaigns(project, project.settings.current_date())
    ]
