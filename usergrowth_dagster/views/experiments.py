"""Past experiments as people look at them: which have landed, and what they came to."""

from dataclasses import dataclass
from datetime import date

from usergrowth_dagster.measure.balance import Difference
from usergrowth_dagster.measure.experiment import experiment_called, past_experiments
from usergrowth_dagster.measure.experiment_report import ExperimentReport, report_experiment
from usergrowth_dagster.project import Project
from usergrowth_dagster.views.effects import EffectView, view_report


@dataclass(frozen=True)
class ExperimentLine:
    """One past experiment of ``sources.yml``; the days are None until it has landed."""

    name: str
    rows_from: str
    first: date | None
    last: date | None
    days: int


@dataclass(frozen=True)
class ExperimentView:
    """What a past experiment came to.

    Attributes:
        effect: as that of a campaign.
        balanced: whether nothing known before foretells the arm.
        balance: the same in a sentence.
        differences: the features that differ most between the arms.
    """

    effect: EffectView
    balanced: bool
    balance: str
    differences: tuple[Difference, ...]


def list_experiments(project: Project) -> list[ExperimentLine]:
    """The past experiments that the sources of a home describe."""
    return [
        ExperimentLine(
            one.name,
            one.source.rows_from,
            min(one.days, default=None),
            max(one.days, default=None),
            len(one.days),
        )
        for one in past_experiments(project)
    ]


def view_experiment(project: Project, name: str) -> ExperimentView:
    """Measure a past experiment and write its report.

    Raises:
        UserError: there is none of that name, or it has not landed.
    """
    return _view(report_experiment(project, experiment_called(project, name)))


def _view(made: ExperimentReport) -> ExperimentView:
    balance = made.measured.balance
    return ExperimentView(
        view_report(made.report), balance.passed, balance.sentence, balance.differences
    )
