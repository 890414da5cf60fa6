"""Run the code location's jobs in this process, recorded in the home's Dagster instance."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from usergrowth_dagster.error_codes import CODES, ErrorCode
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.runs.reports import Rows, RunReport

if TYPE_CHECKING:
    from dagster import ExecuteInProcessResult


class InterruptedRunError(UserError):
    """A person stopped the run; the same command goes on where it stopped."""


QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Keeps Dagster's event log off the terminal; it is in the instance all the same."""


def execute(
    job: str,
    *,
    partition: str | None = None,
    tags: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
) -> RunReport:
    """Run a job for one partition, or for the range that the tags give.

    ``config`` is the job's run config, instead of the one that it has by default.

    Raises:
        UserError: a step failed; the sentences of all that did, as their assets gave them.
    """
    from usergrowth_dagster.defs.build import build_definitions
    from usergrowth_dagster.defs.jobs import JOB_CONFIG
    from usergrowth_dagster.runs.unfinished import (
        TAG,
        alive,
        end_killed_runs,
        open_instance,
    )

    definition = build_definitions().resolve_job_def(job)
    with open_instance() as instance:
        locks = Path(instance.root_directory) / "commands"
        end_killed_runs(instance, locks)
        with alive(locks) as command:
            result = definition.execute_in_process(
                instance=instance,
                partition_key=partition,
                tags={**(tags or {}), TAG: command},
                run_config={**(JOB_CONFIG.get(job, {}) if config is None else config), **QUIET},
                raise_on_error=False,
            )
    report = _report(result)
    if not result.success:
        raise _failure(result)
    return report


def _report(result: "ExecuteInProcessResult") -> RunReport:
    report = RunReport(result.run_id)
    for event in result.get_asset_materialization_events():
        materialization = event.step_materialization_data.materialization
        name = "/".join(materialization.asset_key.path)
        values = {key: _value(value) for key, value in materialization.metadata.items()}
        if values:
            report.metadata[name] = values
            report.rows[name] = int(str(values.get("dagster/row_count") or 0))
    for check in result.get_asset_check_evaluations():
        if check.passed:
            continue
        failures = check.metadata.get("failures")
        if failures is not None:
            report.failures.append(str(failures.value))
        else:
            sentence = check.metadata.get("sentence")
            more = f" ({sentence.value})" if sentence is not None else ""
            name = f"{'/'.join(check.asset_key.path)}: {check.check_name}"
            report.warnings.append(f"{name}{more}")
    return report


def _value(value: Any) -> Any:
    from dagster import TableMetadataValue

    if isinstance(value, TableMetadataValue):
        names = [column.name for column in value.schema.columns]
        return Rows(names, [[row.data[name] for name in names] for row in value.records])
    return getattr(value, "value", value)


def _failure(result: "ExecuteInProcessResult") -> UserError:
    """The sentences of every failed step; a step that others kept from running has none.

    The code is that of the first step whose error has one.
    """
    sentences: list[str] = []
    codes: list[ErrorCode] = []
    for event in result.all_events:
        if not event.is_step_failure or not event.step_failure_data.error:
            continue
        data = event.step_failure_data
        error = data.error
        if error and error.cls_name == "DagsterExecutionInterruptedError":
            raise InterruptedRunError(
                "interrupted; the same command goes on where this one stopped",
                code="run.interrupted",
            )
        if data.user_failure_data and data.user_failure_data.description:
            sentences.append(str(data.user_failure_data.description))
            codes += _code(data.user_failure_data.metadata)
            continue
        while error and error.cause:
            error = error.cause
        sentences.append(f"{event.step_key}: {error.message.strip() if error else 'failed'}")
    sentence = "\n".join(sentences) or f"run {result.run_id} failed; see it in the UI (make dev)"
    return UserError(sentence, code=codes[0] if codes else "run.failed")


def _code(metadata: Mapping[str, Any]) -> list[ErrorCode]:
    """The code that a step's failure carries, as one item; nothing where it has none."""
    value = _value(metadata["code"]) if "code" in metadata else None
    return [cast(ErrorCode, value)] if value in CODES else []
