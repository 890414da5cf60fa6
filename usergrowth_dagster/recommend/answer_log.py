"""The log of answers and clicks: no user id in it, and no more of a request than a report needs.

A user stands as a keyed hash, which leads back to none without the home's secret. A click names the
answer and the item; the answer says which routes had recalled it.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from usergrowth_dagster.data.row_log import Columns, RowLog
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.schedules.occurrences import business_now
from usergrowth_dagster.project import Project
from usergrowth_dagster.recommend.recommender import Item
from usergrowth_dagster.recommend.saved import FOLDER

ANSWERS, CLICKS = "recommend_answers", "recommend_clicks"
"""The tables that the log lands as."""

ANSWER_COLUMNS: Columns = {
    "time": ("TIMESTAMP", "when the request was answered (UTC)"),
    "request_id": ("VARCHAR", "of the answer; a click names it"),
    "version": ("VARCHAR", "date and mark of the recommendations that answered"),
    "bucket": ("VARCHAR", "main or trial; empty: no user was named, or there is no trial"),
    "scene": ("VARCHAR", "where the caller showed the list"),
    "person": ("VARCHAR", "keyed hash of the user's id; empty: none was named"),
    "fallback": ("BOOLEAN", "whether there was no time for the user's own order, or it failed"),
    "item_id": ("VARCHAR", "an item of the answer"),
    "place": ("INTEGER", "its place in the answer, from 1"),
    "routes": ("VARCHAR", "routes that recalled it, with commas between them"),
}
CLICK_COLUMNS: Columns = {
    "time": ("TIMESTAMP", "when the service heard of it (UTC)"),
    "request_id": ("VARCHAR", "of the answer that showed the item"),
    "item_id": ("VARCHAR", "the item"),
    "event": ("VARCHAR", "what the user did: click, or the caller's word"),
}
"""By name, the DuckDB type and the meaning of the columns of the files."""


@dataclass(frozen=True)
class Answered:
    """An answer of the service.

    Attributes:
        request_id: of this answer; no other has it.
        version: of the recommendations that answered.
        bucket: main or trial; empty: no user was named, or there is no trial.
        items: in order.
        order: name of the order.
        fallback: whether it is not the order that the user should have.
    """

    request_id: str
    version: str
    bucket: str
    items: tuple[Item, ...]
    order: str
    fallback: bool


def log_folders(project: Project) -> tuple[Path, Path]:
    """Where a home's service writes its answers, and its clicks."""
    folder = project.settings.home / FOLDER / "log"
    return folder / "answers", folder / "clicks"


class AnswerLog:
    """Keeps answers and clicks, and writes them to files.

    Args:
        project: the home.
        lost: called with the number of rows that are lost.

    Raises:
        UserError: the home's secret cannot be read.
    """

    def __init__(self, project: Project, lost: Callable[[int], None]) -> None:
        vault = open_vault(project.settings.home, project.settings.default_country)
        self._key, self._settings = vault.key_for(b"recommend log"), project.settings
        answers, clicks = log_folders(project)
        self._answers = RowLog(answers, ANSWER_COLUMNS, project.settings.zone, lost)
        self._clicks = RowLog(clicks, CLICK_COLUMNS, project.settings.zone, lost)

    def answered(self, answer: Answered, user_id: str, scene: str) -> None:
        """Keep an answer, a row an item."""
        person = hmac.digest(self._key, user_id.encode(), "sha256")[:16].hex() if user_id else ""
        shared = (answer.request_id, answer.version, answer.bucket, scene, person, answer.fallback)
        now = self._now()
        for place, item in enumerate(answer.items, start=1):
            self._answers.keep(now, *shared, item.item_id, place, ",".join(item.routes))

    def clicked(self, request_id: str, item_id: str, event: str) -> None:
        """Keep a click."""
        self._clicks.keep(self._now(), request_id, item_id, event)

    def watch(self, every: float) -> None:
        """Write each so many seconds, until :meth:`close`."""
        self._answers.watch(every)
        self._clicks.watch(every)

    def write(self) -> None:
        """Write what waits."""
        self._answers.write()
        self._clicks.write()

    def close(self) -> None:
        """Write what waits and end."""
        self._answers.close()
        self._clicks.close()

    def _now(self) -> datetime:
        """The time of the business clock, in UTC and without a zone."""
        return business_now(self._settings).astimezone(UTC).replace(tzinfo=None)
