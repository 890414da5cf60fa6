"""Run the code location's jobs in this process, recorded in the home's Dagster instance.

Commands may share a home: one makes Dagster's databases, and each ends the runs of killed ones. A
killed process leaves its run "started" for ever, with its place in a pool, for which the next run
would wait without end.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from usergrowth_dagster.error_codes import CODES, ErrorCode
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.interrupts import is_interrupt
from usergrowth_dagster.runs.reports import Rows, RunReport

if TYPE_CHECKING:
    from dagster import DagsterInstance, ExecuteInProcessResult

_COMMAND_TAG = "usergrowth/command"
"""Tag of a command's runs: the name of the lock file that its process holds."""


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
    assets: Sequence[str] | None = None,
) -> RunReport:
    """Run a job for one partition, or for the range that the tags give.

    ``config`` is the job's run config, instead of the one that it has by default. ``assets`` are
    those of the job's assets that the run makes; all when it is None.

    Raises:
        UserError: a step failed; the sentences of all that did, as their assets gave them.
    """
    from dagster import AssetKey

    from usergrowth_dagster.defs.build import build_definitions
    from usergrowth_dagster.defs.jobs import JOB_CONFIG

    definition = build_definitions().resolve_job_def(job)
    with open_instance() as instance:
        locks = Path(instance.root_directory) / "commands"
        _end_killed_runs(instance, locks)
        with _alive(locks) as command:
            result = definition.execute_in_process(
                instance=instance,
                partition_key=partition,
                tags={**(tags or {}), _COMMAND_TAG: command},
                run_config={**(JOB_CONFIG.get(job, {}) if config is None else config), **QUIET},
                raise_on_error=False,
                asset_selection=None if assets is None else [AssetKey(one) for one in assets],
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
        if _is_interrupt(error):
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
    unknown = f"run {result.run_id} failed; see it in the UI (make dev)"
    sentence = "\n".join(dict.fromkeys(sentences)) or unknown
    return UserError(sentence, code=codes[0] if codes else "run.failed")


def _is_interrupt(error: Any) -> bool:
    """Whether Ctrl-C is a step's error, or what that comes from."""
    while error:
        if is_interrupt(error.cls_name or "", error.message):
            return True
        error = error.cause
    return False


def _code(metadata: Mapping[str, Any]) -> list[ErrorCode]:
    """The code that a step's failure carries, as one item; nothing where it has none."""
    value = _value(metadata["code"]) if "code" in metadata else None
    return [cast(ErrorCode, value)] if value in CODES else []


def _lock(handle: IO[str], *, wait: bool) -> bool:
    """Take a file's lock unless a process holds it; the system frees it with the process.

    Returns:
        Whether the lock is taken; never on a system without such locks.
    """
    try:
        import fcntl
    except ImportError:  # pragma: no cover - not on Linux or macOS
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def open_instance() -> "Iterator[DagsterInstance]":
    """The Dagster instance of the home that the environment names.

    Processes that start at once wait for each other while its databases are made: two that make
    the same one leave it with two versions, which no later process can read.
    """
    import os

    from dagster import DagsterInstance

    with (Path(os.environ["DAGSTER_HOME"]) / ".lock").open("w") as handle:
        _lock(handle, wait=True)
        instance = DagsterInstance.get()
    with instance:
        yield instance


@contextmanager
def _alive(folder: Path) -> Iterator[str]:
    """Show other processes that this one is at work; gives the value of :data:`_COMMAND_TAG`.

    Args:
        folder: where the lock files are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        name = secrets.token_hex(8)
        path = folder / f"{name}.lock"
        with path.open("w") as handle:
            _lock(handle, wait=True)
            # Another process may have seen the file before this one held its lock, taken it for
            # that of a killed process, and removed it.
            if not path.exists():
                continue
            try:
                yield name
            finally:
                path.unlink(missing_ok=True)
            return


def _end_killed_runs(instance: "DagsterInstance", folder: Path) -> list[str]:
    """End the unfinished runs of commands whose process is gone, and free their places in pools.

    Args:
        instance: the home's Dagster instance.
        folder: where the lock files are.

    Returns:
        Ids of the runs that were ended.
    """
    from dagster import DagsterRunStatus, RunsFilter

    open_statuses = [
        DagsterRunStatus.NOT_STARTED,
        DagsterRunStatus.STARTING,
        DagsterRunStatus.STARTED,
        DagsterRunStatus.CANCELING,
    ]
    ended = []
    for run in instance.get_runs(filters=RunsFilter(statuses=open_statuses)):
        name = run.tags.get(_COMMAND_TAG)
        if name is None or not _is_gone(folder / f"{name}.lock"):
            continue
        instance.report_run_canceled(run, "its process ended before the run did")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        ended.append(run.run_id)
    # A process killed before its run was recorded, or after it had ended, leaves a file of no run.
    for path in folder.glob("*.lock"):
        _is_gone(path, remove=True)
    return ended


def _is_gone(path: Path, *, remove: bool = False) -> bool:
    """Whether no process holds a lock file; ``remove`` removes it then."""
    try:
        with path.open("r") as handle:
            gone = _lock(handle, wait=False)
            if gone and remove:
                path.unlink(missing_ok=True)
            return gone
    except FileNotFoundError:
        return True
