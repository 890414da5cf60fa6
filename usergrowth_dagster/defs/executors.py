"""Where the steps of a run are executed: processes of the run's machine, pods, or workers.

The commands execute their runs in their own process, whatever the setting says. A further place is
an entry of :data:`EXECUTORS` and a word of the setting ``executor``.
"""

import os
from collections.abc import Callable

import dagster as dg

from usergrowth_dagster.errors import SetUpError
from usergrowth_dagster.settings import Settings

BROKER, RESULTS = "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"
"""Celery's own variables: where steps wait for a worker, and where their results do."""


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
        raise _missing("kubernetes", error) from None
    made: dg.ExecutorDefinition = k8s_job_executor.configured(limit)
    return made


def _celery(_limit: dict[str, int]) -> dg.ExecutorDefinition:
    """Celery's workers, as many steps at a time as they are; see :mod:`celery_app`."""
    try:
        from dagster_celery import celery_executor
    except ImportError as error:
        raise _missing("celery", error) from None
    for name in (BROKER, RESULTS):
        if not os.environ.get(name):
            raise SetUpError(
                f"the setting executor is celery, and the variable {name} is not set; it is the "
                "URL of a server that the workers reach too, such as redis://10.0.0.7/0",
                code="setting.invalid",
            )
    # By their variables: a run's configuration is shown, and a URL may hold a password.
    made: dg.ExecutorDefinition = celery_executor.configured(
        {"broker": {"env": BROKER}, "backend": {"env": RESULTS}}
    )
    return made


def _missing(word: str, error: ImportError) -> SetUpError:
    return SetUpError(
        f"the setting executor is {word}, and {error.name} is not installed: "
        f"pip install 'usergrowth-dagster[{word}]'",
        code="setting.invalid",
    )


EXECUTORS: dict[str, Callable[[dict[str, int]], dg.ExecutorDefinition]] = {
    "processes": _processes,
    "kubernetes": _kubernetes,
    "celery": _celery,
}
