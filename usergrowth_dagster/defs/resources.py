"""What assets need from outside: the project of a home folder."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Progress, Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.settings.places import keep_private

LOG_SECONDS = 1.0
"""Time between two lines about progress in a run's log; each is a commit to a database."""

_LISTENERS: list[Progress] = []


@contextmanager
def listen(progress: Progress) -> Iterator[None]:
    """Report to ``progress`` too how far the runs of this process are, meanwhile."""
    _LISTENERS.append(progress)
    try:
        yield
    finally:
        _LISTENERS.remove(progress)


def report_progress(stage: str, done: int, total: int) -> None:
    """Report to all listeners how far a stage is."""
    for listener in _LISTENERS:
        listener(stage, done, total)


class ProjectResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The project of a home folder.

    An empty ``home`` means ``USERGROWTH_HOME``, else ``./.usergrowth``.
    """

    home: str = ""

    def open(self, context: dg.AssetExecutionContext | None = None) -> Project:
        """The project, whose progress goes to the run's log, a step at most once a second."""
        logged = -LOG_SECONDS

        def progress(stage: str, done: int, total: int) -> None:
            nonlocal logged
            now = time.monotonic()
            if context and (done >= total or now - logged >= LOG_SECONDS):
                context.log.info(f"{stage}: {done:,} of {total:,}")
                logged = now
            report_progress(stage, done, total)

        keep_private()  # Dagster may have started this process itself
        run_id = context.run_id if context else None
        return Project(load_settings(self.home or None), progress, run_id)


@contextmanager
def user_errors() -> Iterator[None]:
    """A user's mistake fails the step with its sentence alone, and is not tried again.

    The failure's metadata hold the error's code and hint.
    """
    try:
        yield
    except UserError as error:
        raise step_failure(str(error), error) from None


def step_failure(sentence: str, error: UserError) -> dg.Failure:
    """The failure of a step by a user's mistake, with the error's code and hint as metadata."""
    metadata = {"code": error.code, "hint": error.hint}
    return dg.Failure(sentence, metadata=metadata, allow_retries=False)
