"""Exports in pages: each row once, on from the page where a crash stopped, refusals row by row."""

import logging
import signal
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.export_desk import DAY, HOSTILE, ExportDesk, Person, phone
from support.page_receiver import PageReceiver, receiving, takes_all
from support.processes import exit_code

from usergrowth_dagster.control import audit
from usergrowth_dagster.defs.build import build_definitions
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.exports.destinations import webhook
from usergrowth_dagster.exports.runs import errors_of, runs_of


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[PageReceiver]:
    monkeypatch.setattr(webhook, "LONGEST_WAIT", 0.01)
    with receiving() as made:
        yield made


def keys(receiver: PageReceiver, page_rows: int = 2, *, more: str = "", url: str = "") -> str:
    inner = f"url: '{url or receiver.url}', page_rows: {page_rows}, attempts: 3{more}"
    return f"audience: all\ncolumns: [user_id, score, ds]\nto: {{webhook: {{{inner}}}}}"


def test_pages_have_keys_and_rows_in_order(
    desk: ExportDesk, receiver: PageReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a page without a key, a row that is lost between two, and a secret on show."""
    monkeypatch.setenv("CRM_TOKEN", "Bearer abcdef")
    desk.decide([Person(name, score=0.1 + 0.2) for name in HOSTILE])
    export = desk.export(keys(receiver, 10, more=", headers_env: {Authorization: CRM_TOKEN}"))
    done = desk.run(export)
    assert [row["user_id"] for row in receiver.rows] == HOSTILE
    assert receiver.rows[0] == {"user_id": "007", "score": 0.1 + 0.2, "ds": "2024-03-04"}
    assert list(receiver.pages) == [f"people-1-{page}" for page in (1, 2, 3)]
    page = receiver.pages["people-1-3"]
    assert (page["page"], page["pages"], page["rows_in_all"]) == (3, 3, len(HOSTILE))
    assert page["tasks"] == ["care"] and page["export"] == "people" and page["run"] == 1
    assert {headers["Authorization"] for _, headers in receiver.requests} == {"Bearer abcdef"}
    assert (done.sent, done.failed) == (len(HOSTILE), 0)
    assert "secret-path" not in repr(done) and "abcdef" not in repr(done)
    assert desk.run(export).state == "unchanged" and len(receiver.requests) == 3
    assert desk.run(export, again=True).state == "sent" and "people-2-1" in receiver.pages
    monkeypatch.delenv("CRM_TOKEN")
    with pytest.raises(UserError, match=r"headers_env\.Authorization: .* CRM_TOKEN is not set"):
        desk.run(export, again=True)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    ids=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9),
        max_size=12,
        unique=True,
    ),
    page_rows=st.integers(1, 13),
)
def test_rows_out_are_rows_of_the_query(
    desk: ExportDesk, receiver: PageReceiver, ids: list[str], page_rows: int
) -> None:
    """Guards against a row that is lost, doubled or changed at the edge of a page."""
    receiver.pages.clear()
    desk.decide(ids)
    done = desk.run(desk.export(keys(receiver, page_rows)), again=True)
    assert [row["user_id"] for row in receiver.rows] == ids and done.sent == len(ids)


@pytest.mark.parametrize("fault", [500, 503, 429, 408, None])
def test_a_fault_that_passes_is_tried_again(
    desk: ExportDesk, receiver: PageReceiver, fault: int | None
) -> None:
    """Guards against people who are missing since a receiver was busy, or get in twice."""
    desk.decide([f"u{n}" for n in range(6)])

    def answer(number: int, _page: Any) -> tuple[int, dict[str, Any] | str] | None:
        if number in (2, 3):
            return None if fault is None else (fault, "busy")
        return 200, {}

    receiver.answer = answer
    done = desk.run(desk.export(keys(receiver)))
    assert done.sent == 6 and receiver.numbers == [1, 2, 3, 4, 5, 6]
    assert [key for key, _ in receiver.requests].count("people-1-2") == 3


def test_a_run_goes_on_where_it_stopped(desk: ExportDesk, receiver: PageReceiver) -> None:
    """Guards against pages that are sent again from the first, and a page under two keys."""
    desk.decide([f"u{n}" for n in range(6)])
    receiver.answer = lambda number, page: (503, "") if page["page"] == 2 else (200, {})
    export = desk.export(keys(receiver))
    with pytest.raises(
        UserError, match="did not take page 2 in 3 attempts: it answers 503"
    ) as gone:
        desk.run(export)
    assert gone.value.code == "export.unreachable"
    (run,) = runs_of(desk.project.store)
    assert (run.state, run.sent) == ("failed", 2)
    receiver.answer, before = takes_all, len(receiver.requests)
    assert desk.run(export).sent == 6
    assert [key for key, _ in receiver.requests[before:]] == ["people-1-2", "people-1-3"]
    assert [run.state for run in runs_of(desk.project.store)] == ["done"]
    desk.decide(["other"])
    receiver.answer = lambda number, page: (503, "")
    with pytest.raises(UserError):
        desk.run(export)
    desk.decide(["another"])
    receiver.answer = takes_all
    desk.run(export)
    newest = list(receiver.pages.values())[-1]  # never the rest of another audience
    assert [row["data"]["user_id"] for row in newest["rows"]] == ["another"]


CHILD = """
import os, signal, sys
from datetime import date
from usergrowth_dagster.exports.destinations import webhook
from usergrowth_dagster.exports.run import exports_of, run_export
from usergrowth_dagster.project import Project
record, left = webhook.add_progress, [int(sys.argv[2])]
def counted(*arguments, **options):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    record(*arguments, **options)
webhook.add_progress = counted
project = Project.open(sys.argv[1])
(export,) = exports_of(project)
run_export(project, export, date(2024, 3, 4), actor="child")
"""


@pytest.mark.parametrize("pages", [0, 1, 2])
def test_a_killed_export_goes_on_with_the_same_key(
    desk: ExportDesk, receiver: PageReceiver, pages: int
) -> None:
    """Guards against a person who is taken twice since the answer was not recorded."""
    desk.decide([f"u{n}" for n in range(6)])
    export = desk.export(keys(receiver))
    assert exit_code(CHILD, str(desk.home), str(pages)) == -signal.SIGKILL
    (run,) = runs_of(desk.project.store)
    assert (run.state, run.sent) == ("running", 2 * pages)
    assert receiver.numbers == list(range(1, 2 * pages + 3))  # taken, and not recorded
    done = desk.run(export)
    assert (done.sent, receiver.numbers) == (6, [1, 2, 3, 4, 5, 6])
    assert set(receiver.pages) == {f"people-1-{page}" for page in (1, 2, 3)}


def test_refused_rows_are_kept(
    desk: ExportDesk, receiver: PageReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against refusals that nobody hears of, of rows of others, or with a number in them."""
    monkeypatch.setenv("USERGROWTH_HOME", str(desk.home))
    desk.decide(["u1", "u2", "u3"])
    refusals: list[Any] = [
        {"row": 2, "user_id": "forged", "reason": f"{phone(2)} a@shop.example is unknown\nto us"},
        {"row": 2, "reason": "again"},
        {"row": 99, "reason": "of no page"},
        {"row": True},
        {"row": "1"},
        "nonsense",
    ]
    receiver.answer = lambda number, page: (200, {"errors": refusals})
    done = desk.run(desk.export(keys(receiver)))
    assert (done.rows, done.sent, done.failed) == (3, 3, 1)
    (error,) = errors_of(desk.project.store, 1)
    assert (error.row, error.task_id, error.user_id) == (2, "care", "u2")
    assert "is unknown to us" in error.reason
    assert phone(2)[4:] not in error.reason and "a@shop" not in error.reason
    desk.decide(["u1", "u2"])
    with dg.DagsterInstance.ephemeral() as instance:
        job = build_definitions(str(desk.home)).resolve_job_def("export")
        result = job.execute_in_process(instance=instance, partition_key=DAY.isoformat())
        checks = {one.check_name: one.passed for one in result.get_asset_check_evaluations()}
    assert checks == {"all_rows_went_out": True, "no_row_was_refused": False}


def test_all_refusals_are_counted_and_some_kept(
    desk: ExportDesk, receiver: PageReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a control store that grows with every refused audience."""
    from usergrowth_dagster.exports import runs

    monkeypatch.setattr(runs, "KEPT_ERRORS", 3)
    desk.decide([f"u{n}" for n in range(8)])
    receiver.answer = lambda number, page: (
        200,
        {"errors": [{"row": row["row"], "reason": "no"} for row in page["rows"]]},
    )
    done = desk.run(desk.export(keys(receiver)))
    assert done.failed == 8
    assert [one.row for one in errors_of(desk.project.store, 1)] == [1, 2, 3]


@pytest.mark.parametrize("status", [400, 401, 404, 302])
def test_a_refused_page_is_one_sentence(
    desk: ExportDesk, receiver: PageReceiver, status: int
) -> None:
    """Guards against a run that hammers a receiver, and an answer with a number on show."""
    desk.decide(["u1"])
    receiver.answer = lambda number, page: (status, f"no {phone(1)}\nhere")
    with pytest.raises(UserError, match=f"answers {status} to the page people-1-1: no ") as refused:
        desk.run(desk.export(keys(receiver)))
    assert refused.value.code == "export.refused" and len(receiver.requests) == 1
    assert phone(1)[4:] not in str(refused.value) and "\n" not in str(refused.value)
    assert "secret-path" not in str(refused.value)


def test_a_receiver_that_is_gone_is_one_sentence(desk: ExportDesk, receiver: PageReceiver) -> None:
    """Guards against a traceback with the address, and rows that travel in the clear."""
    desk.decide(["u1"])
    with pytest.raises(
        UserError, match=r"to\.webhook\.url: http://127\.0\.0\.1:9/… cannot be reached"
    ) as gone:
        desk.run(desk.export(keys(receiver, url="http://127.0.0.1:9/x")))
    assert gone.value.code == "export.unreachable" and runs_of(desk.project.store) == []
    for url, sentence in (
        ("http://crm.example.com/x", "people would go out in the clear"),
        ("https://a:secret@crm.example.com/x", "a password never stands here"),
        ("ftp://crm.example.com/x", "must begin with https"),
    ):
        with pytest.raises(UserError, match=sentence) as refused:
            desk.export(keys(receiver, url=url))
        assert "secret" not in str(refused.value)


def test_numbers_go_only_to_the_receiver(
    desk: ExportDesk, receiver: PageReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Guards against a number in a log, a run's record, the audit log or a result."""
    caplog.set_level(logging.DEBUG)
    desk.decide([Person("u1", phone=phone(4930281756), email="ann@shop.example")])
    export = desk.export(
        f"audience: all\ncolumns: [phone, email]\ncontains_addresses: true\n"
        f"to: {{webhook: {{url: '{receiver.url}'}}}}"
    )
    done = desk.run(export)
    assert receiver.rows == [{"phone": phone(4930281756), "email": "ann@shop.example"}]
    assert len(audit.entries(desk.project.store, action="export-addresses")) == 1
    desk.project.store.close()
    kept = b"".join(path.read_bytes() for path in desk.home.glob("control.db*"))
    seen = caplog.text + repr(done)
    for secret in (phone(4930281756)[4:], "ann@shop"):
        assert secret not in seen and secret.encode() not in kept
