"""Where the steps of a run are executed: processes of the run's machine, or pods of a cluster.

The commands execute their runs in their own process, whatever the setting says. A further place is
an entry of :data:`EXECUTORS` and a word of the setting ``executor``.
"""

from collections.abc import Callable

import dagster as dg

from usergrowth_dagster.errors import SetUpError
from usergrowth_dagster.settings import Settings


def executor(settings: Settings, at_once: int | None = None) -> dg.ExecutorDefinition:
    """The executor of the setting ``executor``.

    Args:
        settings: of the home.
        at_once: steps of one run that work at the same time; None: as many as can.

    Raises:
        SetUpError: a package of it is not installed.
    """
    limit = {} if at_once is None else {"max_concurrent": at_once}
    return EXECUTORS[settings.executor](limit)


def _processes(limit: dict[str, int]) -> dg.ExecutorDefinition:
    return dg.multiprocess_executor.configured(limit)


def _kubernetes(limit: dict[str, int]) -> dg.ExecutorDefinition:
    """A pod a step, made as the run launcher makes that of a run: image, environment, volumes."""
    try:
        from dagster_k8s import k8s_job_executor
    except ImportError as error:
        raise SetUpError(
            f"the setting executor is kubernetes, and {error.name} is not installed: "
            "pip install 'usergrowth-dagster[kubernetes]'",
            code="setting.invalid",
        ) from None
    made: dg.ExecutorDefinition = k8s_job_executor.configured(limit)
    return made


EXECUTORS: dict[str, Callable[[dict[str, int]], dg.ExecutorDefinition]] = {
    "processes": _processes,
    "kubernetes": _kubernetes,
}
