"""Lines of JSON: what they are about, and what they must not hold."""

import json
import logging
import threading
from contextvars import copy_context
from typing import Any

from support.phones import phone

from usergrowth_dagster.logs import JsonFormatter, about


def line(name: str, message: str, *values: object, **extra: Any) -> dict[str, Any]:
    """What the formatter makes of a record."""
    record = logging.makeLogRecord(
        {"name": name, "levelname": "INFO", "msg": message, "args": values, **extra}
    )
    return dict(json.loads(JsonFormatter().format(record)))


def test_a_line_says_what_it_is_about() -> None:
    """Guards against lines that no one can put together by task, and facts that outlive it."""
    with about(schedule="spring", task_id="care"):
        with about(task_id="other", occurrence=None):
            inner = line("usergrowth.dispatch", "%d messages", 7)
        outer = line("usergrowth.dispatch", "it goes on")
        elsewhere: list[dict[str, Any]] = []
        for context in (copy_context().run, lambda work: work()):
            thread = threading.Thread(
                target=context, args=(lambda: elsewhere.append(line("usergrowth", "x")),)
            )
            thread.start()
            thread.join()
    assert inner["message"] == "7 messages" and inner["level"] == "info"
    assert (inner["schedule"], inner["task_id"]) == ("spring", "other")
    assert "occurrence" not in inner
    assert outer["task_id"] == "care"
    assert elsewhere[0]["task_id"] == "care" and "task_id" not in elsewhere[1]
    assert "task_id" not in line("usergrowth.dispatch", "after")
    assert inner["time"].endswith("+00:00")


def test_what_others_write_is_masked() -> None:
    """Guards against an address or a number that a library quotes."""
    for text, shown in (
        (
            f"GET http://sms.example/send?to={phone(1)}&text=hi failed",
            "GET http://sms.example/send?… failed",
        ),
        (f"550 no such user ann.lee+x@shop.example, {phone(2)}", "550 no such user …, …"),
        ("called (212) 555-0123 twice", "called … twice"),
        ("retried 3 times in 250 ms", "retried 3 times in 250 ms"),
    ):
        assert line("httpx", text)["message"] == shown
    ours = "backfill of 2017-12-01 to 2017-12-28: 1234567 rows"
    assert line("usergrowth.pipeline", ours)["message"] == ours
    assert line("dagster", ours)["message"] == ours


def test_values_that_do_not_fit_stay_out() -> None:
    """Guards against logging's own complaint, which prints the values of the line."""
    shown = line("httpx", "sent %d of %d", phone(1))
    assert shown["message"] == "sent %d of %d"


def test_an_error_shows_its_kind_and_its_place_alone() -> None:
    """Guards against a traceback whose last line quotes a person's number."""
    try:
        raise ValueError(f"cannot send to {phone(3)}")
    except ValueError as error:
        trace = (type(error), error, error.__traceback__)
    shown = line("usergrowth.serve", "a request failed", exc_info=trace)
    assert shown["error"] == "ValueError"
    assert shown["at"][-1].startswith(__file__)
    assert phone(3)[1:] not in json.dumps(shown)


def test_a_line_of_a_run_has_its_id() -> None:
    """Guards against lines of a Dagster run that cannot be put to it."""
    meta = {"run_id": "r-1", "job_name": "decide", "step_key": "scores", "orig_message": "12 rows"}
    shown = line("dagster", "decide - r-1 - scores - 12 rows", dagster_meta=meta)
    assert shown["message"] == "12 rows"
    assert (shown["run_id"], shown["job"], shown["step"]) == ("r-1", "decide", "scores")
