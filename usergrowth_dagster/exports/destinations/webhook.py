"""A webhook: pages of rows by POST, each with a key that says which page of which run it is.

A page is one POST with ``Idempotency-Key: <export>-<run>-<page>``::

    {"export": "care_list", "run": 7, "execution_date": "2024-05-04", "tasks": ["care"],
     "page": 1, "pages": 3, "rows_in_all": 1200,
     "rows": [{"row": 1, "data": {"user_id": "u1", "score": 0.5}}]}

An answer of 2xx takes the page. Its body may name rows that the receiver refuses::

    {"errors": [{"row": 1, "user_id": "u1", "reason": "unknown customer"}]}

408, 425, 429, every 5xx, a time-out and a lost connection are tried again, with longer waits;
another answer ends the run. A page that was taken is recorded before the next goes out, so the next
run goes on behind it. A page whose answer got lost is posted again with the same key: the receiver
must take a key once.
"""

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from usergrowth_dagster.addresses.shown import hide_numbers
from usergrowth_dagster.documents import plain
from usergrowth_dagster.errors import SetUpError, UserError
from usergrowth_dagster.exports.definition import Export
from usergrowth_dagster.exports.destinations.base import Delivered, Delivery
from usergrowth_dagster.exports.destinations.keys import environment_value
from usergrowth_dagster.exports.rows import ExportRows
from usergrowth_dagster.exports.runs import ExportRun, RowError, add_progress, get_run
from usergrowth_dagster.messaging.gateways.bounded_http import (
    CONNECT_SECONDS,
    Answered,
    BoundedClient,
    proxy_of,
)
from usergrowth_dagster.messaging.gateways.protocol import Answer
from usergrowth_dagster.messaging.gateways.wire import quiet, sort_error

SECONDS = 60.0
"""Time of one POST in all."""

LONGEST_WAIT = 60.0
_AGAIN = frozenset({408, 425, 429})
_SHOWN = 200


class _TryAgainError(Exception):
    """A page was not taken, and may be when it is posted again.

    Attributes:
        wait: seconds that the receiver asks for; None: it does not say.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class WebhookDestination:
    """A receiver of pages; implements :class:`base.Destination`.

    Args:
        export: the export.
        home: not used; a webhook has no files.
    """

    resumes = True

    def __init__(self, export: Export, home: Path) -> None:
        assert export.to.webhook is not None
        self._export = export
        self._keys = export.to.webhook
        self._place = f"export {export.name}: to.webhook"
        self.shown = self._keys.shown

    def check(self, rows: ExportRows | None) -> None:
        """Look the headers up, and open a connection; nothing is posted."""
        self._headers()
        if proxy_of(self._keys.url) is not None:
            return
        parts = urlsplit(self._keys.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((parts.hostname, port), CONNECT_SECONDS).close()
        except OSError as error:
            raise UserError(
                f"{self._place}.url: {self.shown} cannot be reached: {error.strerror or error}",
                code="export.unreachable",
            ) from None

    def holds(self, run: ExportRun) -> bool:
        """A receiver cannot be asked; what it has taken, it has."""
        return True

    def finished(self, run: ExportRun) -> Delivered | None:
        """All pages were taken, and that alone was not recorded."""
        return Delivered(0) if run.sent == run.rows else None

    def remove(self, run: ExportRun) -> bool:
        """What was posted cannot be taken back."""
        return False

    def deliver(self, delivery: Delivery) -> Delivered:
        """Post the pages that the receiver has not taken yet."""
        rows, run, size = delivery.rows, delivery.run, self._keys.page_rows
        pages = -(-rows.rows // size)
        with quiet(), BoundedClient(1) as client:
            for page in range(run.sent // size + 1, pages + 1):
                first, last = (page - 1) * size + 1, min(page * size, rows.rows)
                body = self._body(delivery, page, pages, first, last)
                answered = self._post(client, f"{run.export}-{run.id}-{page}", body)
                errors = _errors(delivery.rows, answered.body, first, last)
                add_progress(
                    delivery.project.store,
                    run.id,
                    sent=last - first + 1,
                    errors=errors,
                    failed=len(errors),
                )
        taken = get_run(delivery.project.store, run.id).sent
        if taken != rows.rows:
            raise AssertionError(f"{taken} of {rows.rows} rows are recorded as taken")
        return Delivered(0)

    def _body(self, delivery: Delivery, page: int, pages: int, first: int, last: int) -> bytes:
        lines = delivery.rows.stream(after=first - 1, until=last).read_all().to_pylist()
        content = {
            "export": delivery.export.name,
            "run": delivery.run.id,
            "execution_date": delivery.day,
            "tasks": delivery.rows.tasks,
            "page": page,
            "pages": pages,
            "rows_in_all": delivery.rows.rows,
            "rows": [{"row": number, "data": line} for number, line in enumerate(lines, first)],
        }
        return json.dumps(plain(content), ensure_ascii=False).encode()

    def _headers(self) -> dict[str, str]:
        """The headers whose values are in the environment."""
        return {
            name: environment_value(variable, f"{self._place}.headers_env.{name}")
            for name, variable in self._keys.headers_env.items()
        }

    def _post(self, client: BoundedClient, key: str, body: bytes) -> Answered:
        """Post one page until it is taken.

        Raises:
            UserError: it is refused, or was not taken in as many attempts as the export allows.
        """
        import tenacity

        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_TryAgainError),
            stop=tenacity.stop_after_attempt(self._keys.attempts),
            wait=_wait,
            reraise=True,
        )
        headers = {
            **self._headers(),
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        }
        try:
            answered: Answered = attempts(self._post_once, client, headers, body)
        except _TryAgainError as error:
            raise UserError(
                f"{self._place}: {self.shown} did not take page {key.rpartition('-')[2]} in "
                f"{self._keys.attempts} attempts: {error}; the next run goes on there",
                code="export.unreachable",
            ) from None
        return answered

    def _post_once(
        self, client: BoundedClient, headers: Mapping[str, str], body: bytes
    ) -> Answered:
        try:
            answered = client.exchange("POST", self._keys.url, headers, body, SECONDS)
        except Exception as error:  # its text may hold the address
            answer, code = sort_error(error)
            if answer is Answer.STOP:
                raise SetUpError(
                    f"{self._place}.url: {self.shown}: {code.replace('_', ' ')}",
                    code="export.unreachable",
                ) from None
            raise _TryAgainError(code.replace("_", " ")) from None
        if 200 <= answered.status < 300:
            return answered
        if answered.status in _AGAIN or answered.status >= 500:
            raise _TryAgainError(
                f"it answers {answered.status}", _seconds(answered.headers.get("retry-after"))
            )
        raise UserError(
            f"{self._place}: {self.shown} answers {answered.status} to the page "
            f"{headers['Idempotency-Key']}: {hide_numbers(_one_line(answered.text))}",
            code="export.refused",
        )


def _wait(state: Any) -> float:
    """Seconds before the next attempt: what the receiver asks for, else twice as long each time."""
    error = state.outcome.exception()
    if isinstance(error, _TryAgainError) and error.wait is not None:
        return error.wait
    return float(min(0.5 * 2 ** (state.attempt_number - 1), LONGEST_WAIT))


def _seconds(text: str | None) -> float | None:
    """Seconds of a header Retry-After, at most a minute; None for a date or nothing."""
    if text is None or not text.strip().isdecimal():
        return None
    return min(float(text), LONGEST_WAIT)


def _one_line(text: str) -> str:
    return " ".join(text[:_SHOWN].split()) or "without a word"


def _errors(rows: ExportRows, body: bytes, first: int, last: int) -> list[RowError]:
    """The rows of a page that the receiver refuses, each once; another's rows do not count."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return []
    entries = content.get("errors") if isinstance(content, dict) else None
    reasons: dict[int, str] = {}
    for entry in entries if isinstance(entries, list) else []:
        row = entry.get("row") if isinstance(entry, dict) else None
        if isinstance(row, int) and not isinstance(row, bool) and first <= row <= last:
            reasons.setdefault(row, hide_numbers(_one_line(str(entry.get("reason") or ""))))
    if not reasons:
        return []
    people = rows.engine.rows(
        f'select "row", task_id, user_id from {rows.relation} '
        f'where "row" in ({", ".join(map(str, reasons))}) order by 1'
    )
    return [RowError(row, task, user, reasons[row]) for row, task, user in people]
