"""Train the models that campaigns ask for, two questions at a time."""

from datetime import date
from functools import partial

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.runs.beside import Work, beside
from usergrowth_dagster.runs.execute import InterruptedRunError, execute
from usergrowth_dagster.runs.reports import RunReport
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.settings.machine import memory, size_in_bytes
from usergrowth_dagster.training.train import asked_questions


def train_models(settings: Settings, day: date) -> RunReport:
    """Train every model that campaigns ask for, as of an execution date.

    A fit keeps one processor busy. So where campaigns ask several questions, every other one is
    trained in a second process, if the machine has a processor and the memory for it.

    Raises:
        UserError: steps failed; the sentences of all that did.
    """
    from usergrowth_dagster.defs.jobs import TRAIN, model_assets

    partition, asked = day.isoformat(), asked_questions(Project(settings))
    there = [f"{question}_model" for question in asked[1::2]]
    if not there or not has_room_for_two(settings):
        return execute(TRAIN, partition=partition)
    here = [asset for asset in model_assets() if asset not in there]
    failures: list[UserError] = []
    reports: list[RunReport] = []
    with beside(Work(TRAIN, partition, there, label=" and ".join(asked[1::2]))) as other:
        runs = partial(execute, TRAIN, partition=partition, assets=here), other.report
        for make_run in runs:
            try:
                reports.append(make_run())
            except InterruptedRunError:
                raise
            except UserError as error:
                failures.append(error)
    if failures:
        sentences = "\n".join(map(str, failures))
        raise UserError(sentences, code=failures[0].code, hint=failures[0].hint)
    return _one(reports, model_assets())


def has_room_for_two(settings: Settings) -> bool:
    """Whether two processes of the product have a processor and their memory each."""
    limit = size_in_bytes(settings.memory_limit)
    return settings.threads > 1 and limit is not None and 2 * limit <= memory()


def _one(reports: list[RunReport], assets: list[str]) -> RunReport:
    """The reports of several runs as one, in the order of the assets."""
    whole = RunReport(", ".join(report.run_id for report in reports))
    for asset in assets:
        for report in reports:
            if asset in report.metadata:
                whole.metadata[asset] = report.metadata[asset]
                whole.rows[asset] = report.rows[asset]
    whole.failures = [sentence for report in reports for sentence in report.failures]
    whole.warnings = [sentence for report in reports for sentence in report.warnings]
    return whole
