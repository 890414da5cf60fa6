"""Lines of the log: for a person, or one JSON object a line for a collector.

A line of JSON has ``time`` (UTC), ``level``, ``logger`` and ``message``, and where it is known what
it is about: ``run_id``, ``task_id``, ``schedule``, ``occurrence`` … as :func:`about` or Dagster's
run says. No line holds personal data. Our own messages have none. A library's message may quote an
address or a number, so what looks like one is masked; an error's text may quote anything, so only
its kind and its place in the code are written.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

Form = Literal["text", "json"]
OURS = ("usergrowth", "usergrowth_dagster")
"""The loggers of the product."""

_TRUSTED = (*OURS, "dagster")  # a run's log is written by the product's assets, too
_OF_RUNS = {"run_id": "run_id", "job_name": "job", "step_key": "step"}
_MASKED = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+|\(?\+?\d(?:[ ().-]{0,2}\d){6,}|(?<=\?)[^\s\"']+")
_about: ContextVar[Mapping[str, str]] = ContextVar("about", default={})  # noqa: B039 - never changed


@contextmanager
def about(**facts: str | None) -> Iterator[None]:
    """What the lines that are logged meanwhile, in this thread, are about; None: not known.

    >>> with about(task_id="care-2024-05-04"):
    ...     logging.getLogger("usergrowth.dispatch").info("begins")
    """
    known = {name: value for name, value in facts.items() if value is not None}
    token = _about.set({**_about.get(), **known})
    try:
        yield
    finally:
        _about.reset(token)


class JsonFormatter(logging.Formatter):
    """One JSON object a line; usable in the section ``python_logs`` of a dagster.yaml too."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        of_run = getattr(record, "dagster_meta", None) or {}
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record, of_run.get("orig_message")),
            **{ours: of_run[name] for name, ours in _OF_RUNS.items() if of_run.get(name)},
            **_about.get(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["at"] = _places(record.exc_info[2])
        return json.dumps(line, ensure_ascii=False)


def _message(record: logging.LogRecord, original: str | None) -> str:
    try:
        text = record.getMessage() if original is None else original
    except Exception:  # values that do not fit; logging itself would print them to standard error
        text = str(record.msg)
    return text if record.name.partition(".")[0] in _TRUSTED else _MASKED.sub("…", text)


def _places(trace: TracebackType | None) -> list[str]:
    """Files and lines that an error came through, the outermost first."""
    return [f"{one.filename}:{one.lineno}" for one in traceback.extract_tb(trace)]


def set_up(form: Form, level: int = logging.INFO) -> None:
    """Log to standard error in a form, from a level on; those of libraries from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter()
        if form == "json"
        else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    for name in OURS:
        logging.getLogger(name).setLevel(level)
