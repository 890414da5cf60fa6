"""The report of a past experiment: the same page and JSON as those of a campaign's effect."""

from dataclasses import dataclass

from usergrowth_dagster.effects.report.basis import Basis
from usergrowth_dagster.measure.experiment import (
    MeasuredExperiment,
    PastExperiment,
    measure_experiment,
)
from usergrowth_dagster.measure.report import Report, write_report
from usergrowth_dagster.project import Project


@dataclass(frozen=True)
class ExperimentReport:
    """A past experiment as it was measured, and its report as it is written."""

    measured: MeasuredExperiment
    report: Report


def report_experiment(project: Project, experiment: PastExperiment) -> ExperimentReport:
    """Measure a past experiment and write its report; files are written only when they change.

    Raises:
        UserError: it has not landed, or its days are not in the tables yet.
    """
    measured = measure_experiment(project, experiment)
    basis = _basis(measured, project.settings.currency)
    name = f"experiment_{experiment.name}"
    return ExperimentReport(measured, write_report(project, name, measured.effect, basis))


def _basis(measured: MeasuredExperiment, currency: str) -> Basis:
    """What the experiment was, in the words that stand beside its effect."""
    experiment, keys = measured.experiment, measured.experiment.keys
    first, last = experiment.days[0], experiment.days[-1]
    when = str(first) if first == last else f"{first} to {last}, {len(experiment.days)} days"
    low, high = measured.lowest_chance, measured.highest_chance
    share = f"{100 * low:g} %" if low == high else f"{100 * low:g} % to {100 * high:g} %"
    facts = [
        ("Past experiment", f"{experiment.name}, landed from {experiment.source.rows_from}"),
        ("Days", when),
        ("Chance of being treated", f"{share}, as the source says"),
        ("Counts as a return", _returns(measured)),
        ("A return is worth", _worth(measured, currency)),
        ("Balance of the arms", measured.balance.sentence),
    ]
    if measured.in_both:
        facts.append(
            (
                "In both arms",
                f"{measured.in_both:,} people; they count in the arm of their first day",
            )
        )
    if measured.again:
        facts.append(
            ("Took part again", f"{measured.again:,} rows of people who had taken part before")
        )
    if keys.return_on_item:
        facts.append(("Unit", "a person and an item"))
    return Basis(facts, f"Past experiment {experiment.name} · {when}")


def _returns(measured: MeasuredExperiment) -> str:
    keys = measured.experiment.keys
    what = " or ".join(keys.return_behaviors) or "any behavior"
    where = " on the item of the treatment" if keys.return_on_item else ""
    start = "on the own day or " if keys.same_day else ""
    return f"{what}{where} {start}within {keys.return_days} days after it"


def _worth(measured: MeasuredExperiment, currency: str) -> str:
    keys = measured.experiment.keys
    if keys.amount is not None:
        share = "" if keys.margin == 1 else f", {100 * keys.margin:g} % of it profit"
        return f"the sum of {keys.amount} in the window{share}"
    if keys.value_per_return is not None:
        return f"{keys.value_per_return:g} {currency}"
    return "not said (effect.value_per_return, effect.amount)"
