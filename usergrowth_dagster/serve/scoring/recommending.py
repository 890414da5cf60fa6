"""Recommendations that answer: the newest saved date, in time, and logged.

A date's file is loaded and tried out beside the one that answers. Then one assignment puts it in
that one's place, and a request keeps what it began with. A request that cannot be answered in time
gets the popular items.
"""

import asyncio
import logging
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from usergrowth_dagster.audience.holdout import Holdout, position
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.recommend.answer_log import Answered, AnswerLog
from usergrowth_dagster.recommend.ranker import FUSED
from usergrowth_dagster.recommend.recommender import Item
from usergrowth_dagster.recommend.saved import Saved, load_saved, newest_saved
from usergrowth_dagster.serve.scoring.exchange import Refusal

LOG = logging.getLogger("usergrowth.scoring")
MAIN, TRIAL = "main", "trial"
MOST_ITEMS = 500
"""Items of an answer."""

DEADLINE = 0.05
"""Seconds after which a request gets the popular items."""

_WORKERS = 2
_MOST_WAITING = 32
"""Requests that are worked on or wait; a further one gets the popular items."""

Reason = Literal["late", "failed"]


@dataclass(frozen=True)
class Ask:
    """A request, whatever its door.

    Attributes:
        user_id: the user; empty: none is named.
        n: items at most.
        scene: where the caller shows the list.
        exclude: ids of items that may not be shown.
        recent: ids of items that the user has taken since, the newest last.
        given: ids of items to put into order; None: the items are the service's choice.
    """

    user_id: str
    n: int
    scene: str
    exclude: frozenset[str] = frozenset()
    recent: tuple[str, ...] = ()
    given: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Held:
    """A loaded date.

    Attributes:
        saved: the recommender.
        popular: the items by popularity.
        stamp: of its file.
    """

    saved: Saved
    popular: tuple[Item, ...]
    stamp: object

    def bucket(self, user_id: str) -> str:
        """Main or trial, the same for a user each time; empty without a user or a trial."""
        trial = self.saved.trial
        if trial is None or not user_id:
            return ""
        draw = Holdout(namespace=f"recommend trial {trial.name}")
        return TRIAL if position(draw, user_id) * 100 < trial.percent else MAIN

    def order(self, bucket: str) -> str:
        """The name of the order of a bucket."""
        trial = self.saved.trial
        if trial is not None and bucket == TRIAL:
            return trial.order
        return self.saved.recommender.order.name

    def items(self, ask: Ask, order: str) -> tuple[Item, ...]:
        """The answer of an order."""
        made = self.saved.recommender
        if ask.given is not None:
            return made.rank(ask.user_id, ask.given, recent=ask.recent, order=order)
        return made.recommend(
            ask.user_id, ask.n, exclude=ask.exclude, recent=ask.recent, order=order
        )

    def fallback(self, ask: Ask) -> tuple[Item, ...]:
        """The popular items, without what the user has; of given items none is put first."""
        if ask.given is not None:
            return ()
        made = self.saved.recommender
        hidden = {*ask.exclude, *ask.recent, *made.taken(ask.user_id)}
        return made.capped((item for item in self.popular if item.item_id not in hidden), ask.n)


class Recommending:
    """Answers with the newest recommendations of a home.

    Args:
        project: the home.
        today: the business date; recommendations of a later date wait for it.
        log: of the answers.
        fell_back: called with the reason of each fallback.
        holds: called with the date that answers from now on.
        deadline: seconds of one answer.
    """

    def __init__(
        self,
        project: Project,
        today: Callable[[], date],
        log: AnswerLog,
        fell_back: Callable[[Reason], None],
        holds: Callable[[date], None],
        deadline: float = DEADLINE,
    ) -> None:
        self._project, self._today, self.log = project, today, log
        self._fell_back, self._holds, self.deadline = fell_back, holds, deadline
        self._held: Held | None = None
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="recommend")
        self._places = threading.BoundedSemaphore(_MOST_WAITING)

    @property
    def ready(self) -> bool:
        """Whether a date is loaded."""
        return self._held is not None

    def held(self) -> Held:
        """What answers now.

        Raises:
            Refusal: nothing is loaded.
        """
        if self._held is None:
            raise Refusal(503, "no recommendations are loaded; usergrowth recommend run", after=5)
        return self._held

    def refresh(self) -> None:
        """Bring the newest date to answer; what answered goes on where it cannot be loaded.

        Raises:
            UserError: its file is damaged.
        """
        path = newest_saved(self._project.settings.home, self._today())
        if path is None:
            return
        stamp = _stamp(path)
        if self._held is None or self._held.stamp != stamp:
            self._held = _loaded(path, stamp)
            self._holds(self._held.saved.day)
            LOG.info("recommend: version %s answers", self._held.saved.version)

    async def answer(self, ask: Ask) -> tuple[Answered, date]:
        """The answer to a request, and the date of the recommendations.

        Raises:
            Refusal: nothing is loaded.
        """
        held = self.held()
        bucket = held.bucket(ask.user_id)
        items, order, fallback = await self._in_time(held, ask, held.order(bucket))
        if ask.given is not None:
            items = _with_rest(items, ask.given)
        saved = held.saved
        answer = Answered(uuid.uuid4().hex, saved.version, bucket, items, order, fallback)
        self.log.answered(answer, ask.user_id, ask.scene)
        return answer, saved.day

    def close(self) -> None:
        """End the threads; what waits is given up."""
        self._pool.shutdown(cancel_futures=True)

    async def _in_time(
        self, held: Held, ask: Ask, order: str
    ) -> tuple[tuple[Item, ...], str, bool]:
        """Items, the name of their order, and whether another one was meant."""
        future = self._begun(held, ask, order)
        if future is not None:
            try:
                async with asyncio.timeout(self.deadline):
                    return await asyncio.wrap_future(future)
            except TimeoutError:
                pass
            except Exception as error:
                LOG.error("recommend: an answer failed with %s", type(error).__name__)
                self._fell_back("failed")
                return held.fallback(ask), "popular", True
        self._fell_back("late")
        return held.fallback(ask), "popular", True

    def _begun(
        self, held: Held, ask: Ask, order: str
    ) -> "Future[tuple[tuple[Item, ...], str, bool]] | None":
        """The work on a request, which has begun or waits; None where too many wait."""
        if not self._places.acquire(blocking=False):
            return None
        future = self._pool.submit(self._items, held, ask, order)
        future.add_done_callback(lambda _: self._places.release())
        return future

    def _items(self, held: Held, ask: Ask, order: str) -> tuple[tuple[Item, ...], str, bool]:
        """The items of an order; those of the fusion where it fails."""
        try:
            return held.items(ask, order), order, False
        except Exception as error:
            LOG.error("recommend: the order %s failed with %s", order, type(error).__name__)
            made = held.items(ask, FUSED), FUSED, True
            self._fell_back("failed")
            return made


def _with_rest(items: tuple[Item, ...], given: tuple[str, ...]) -> tuple[Item, ...]:
    """Items in order, and behind them those that nothing speaks for, as they were given."""
    first = {item.item_id for item in items}
    rest = (one for one in dict.fromkeys(given) if one not in first)
    return (*items, *(Item(one, 0.0, {}) for one in rest))


def _stamp(path: Path) -> object:
    state = path.stat()
    return path.name, state.st_mtime_ns, state.st_ino


def _loaded(path: Path, stamp: object) -> Held:
    """A date, loaded and tried out.

    Raises:
        UserError: its file is damaged.
    """
    saved = load_saved(path)
    try:
        held = Held(saved, saved.recommender.everybody(), stamp)
        for user_id in ("", *saved.recommender.user_ids[:1]):
            held.items(Ask(user_id, 1, ""), held.order(MAIN))
        held.fallback(Ask("", 1, ""))
    except Exception as error:  # of the file, which its form alone does not show
        raise UserError(
            f"{path}: gives no answer ({type(error).__name__}); run usergrowth recommend run "
            f"--date {saved.day} again",
            code="recommend.not_made",
        ) from None
    return held
