"""Lines of the questions that campaigns ask, from the newest version of each and its summary."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.control.jobs import training_failure
from usergrowth_dagster.control.tasks import campaigns
from usergrowth_dagster.examples.aarrr.table import Figure, Line
from usergrowth_dagster.learning.amounts.candidates import NAMES as AMOUNT_NAMES
from usergrowth_dagster.learning.candidates import NAMES
from usergrowth_dagster.learning.problems.base import Problem
from usergrowth_dagster.project import Project
from usergrowth_dagster.training.train import training_config

if TYPE_CHECKING:
    from usergrowth_dagster.learning.store import ModelRef

_NAIVE = ("recency", "rfm", "past_response", "past_average")
_WORDS = {str(kind): words for kind, words in (*NAMES.items(), *AMOUNT_NAMES.items())}
_WORDS["past_response"] = "share of past texts answered"
_MEASURES = {"auc": "AUC", "capture_40": "capture at 40 %", "gini": "normalized Gini"}
_OF_STAGE: Mapping[str, str] = {"activation": "capture_40"}
"""The measure where it is not the AUC: of many new users a share is chosen."""


def trained_line(project: Project, campaign: str, data: str) -> Line:
    """The line of the question that a campaign asks.

    Args:
        project: the home.
        campaign: its name.
        data: what the home holds.
    """
    config = training_config(project, campaigns(project.store)[campaign])
    problem = config.problem
    stage = problem.words.stage
    assert stage is not None, problem.name
    question = f"`{problem.name}`, {problem.horizon_days} days: {problem.words.asks}"
    ref = _newest(project, problem.name, config.config_hash())
    if ref is None:
        failure = training_failure(project.store, campaign) or "no version has been trained"
        return Line(stage, question, data, note=failure)
    from usergrowth_dagster.learning.artifacts import read_artifacts

    summary, _ = read_artifacts(ref)
    measure = _measure(problem)
    return Line(
        stage,
        question,
        data,
        _MEASURES[measure],
        _figure(summary["champion"], summary["metrics"][summary["champion"]][measure]),
        _best_naive(summary["metrics"], measure),
        _held_back(ref),
    )


def _newest(project: Project, name: str, label: str) -> "ModelRef | None":
    """The version of a label that was trained last, whatever its status."""
    from usergrowth_dagster.learning.store import versions

    known = versions(project.settings, name, tags={"config_hash": label})
    return max(known, key=lambda ref: (ref.execution_date, ref.version), default=None)


def _measure(problem: Problem) -> str:
    """The measure of a question that stands for it; all of them are on its card."""
    if problem.amounts:
        return "gini"
    return _OF_STAGE.get(problem.words.stage or "", "auc")


def _figure(order: str, figure: Mapping[str, Any]) -> Figure:
    return Figure(_WORDS[order], figure["value"], figure["low"], figure["high"])


def _best_naive(metrics: Mapping[str, Any], measure: str) -> Figure | None:
    """The best of what anyone could do without a model; RFM counts as such."""
    known = {name: metrics[name].get(measure) for name in _NAIVE if name in metrics}
    shown = [_figure(name, one) for name, one in known.items() if one and one["value"] is not None]
    return max(shown, key=lambda figure: figure.value, default=None)


def _held_back(ref: "ModelRef") -> str:
    """What keeps a version from scoring; empty for an approved one."""
    if ref.status == "approved":
        return ""
    gates = ", ".join(ref.failed_gates)
    return f"{ref.status.replace('_', ' ')}" + (f" by the gate {gates}" if gates else "")
