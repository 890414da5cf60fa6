"""Send what is due: claim, write down, submit, record.

The order is what makes it safe: a row is committed as ``submitting`` before the provider hears of
it, so after a crash at any place it is known which rows may have gone out. Those are looked up and
never sent again by themselves. Any number of dispatchers may run at once.
"""

import contextlib
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import datetime, timedelta

from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.logs import about
from usergrowth_dagster.messaging.dispatching import failpoints
from usergrowth_dagster.messaging.dispatching.claims import LEASE, Claims
from usergrowth_dagster.messaging.dispatching.look_ups import FIRST_AGAIN, settle
from usergrowth_dagster.messaging.dispatching.results import DispatchCounts, is_of_the_values
from usergrowth_dagster.messaging.dispatching.worker import READY, GatewayBrokenError, Sender
from usergrowth_dagster.messaging.failures import report_failing
from usergrowth_dagster.messaging.gateways.protocol import Gateway
from usergrowth_dagster.messaging.gateways.registry import gateway_named, make_gateway
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.operations.deliveries import report_stalls
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.receiving.receipts import match_receipts
from usergrowth_dagster.messaging.schedules.occurrences import (
    Occurrence,
    business_now,
    change_state,
    due_occurrences,
    late_occurrences,
)
from usergrowth_dagster.messaging.schedules.series import open_due_repeats
from usergrowth_dagster.settings import Settings

__all__ = ["DispatchCounts", "Held", "dispatch"]

Held = Callable[[Sequence[Occurrence]], Mapping[int, str]]
"""Takes due occurrences; returns, by id, a sentence about each one that must not begin now."""

_HOUSEKEEPING = 30.0
_NAP = 0.5


def dispatch(
    store: ControlStore,
    settings: Settings,
    gateway: Gateway | None = None,
    now: datetime | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    lease: timedelta = LEASE,
    patience: timedelta | None = None,
    look_up_again: timedelta = FIRST_AGAIN,
    stop: Callable[[], bool] = lambda: False,
    held: Held = lambda _due: {},
) -> DispatchCounts:
    """Send every due occurrence until nothing can be claimed any more.

    The occurrences take turns. A gateway that raises is left alone for the rest of the round; what
    goes through another goes on.

    Args:
        store: the control store.
        settings: home folder (secret key, outbox), gateways, rates, contact rules, pinned date.
        gateway: where to submit, whatever the channel; default by setting.
        now: business clock, standing still; default :func:`business_now`, going on.
            What is past its send-by expires.
        progress: called with messages handled and messages that were open at the start.
        lease: how long a submission may take before it counts as lost.
        patience: how long the round may go on; default: until all is out, however long the rate
            limit makes that. Rows that are left are for the next round.
        look_up_again: shortest time between two look-ups of a doubtful row.
        stop: asked between claims; true ends the round early.
        held: says which occurrences must not begin. One that has begun goes on, so that nothing is
            sent by halves.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database fails. What was with a provider then is in
            doubt when its lease has run out, and looked up.
    """
    with ThreadPoolExecutor(1, "gateway") as caller:
        work = _Round(store, settings, gateway, now, lease, look_up_again, caller, held)
        try:
            work.run(progress, patience, stop)
        except BaseException:
            with contextlib.suppress(Exception):
                work.claims.give_back()
            raise
        work.claims.give_back()
        work.ledger.skip_cancelled()
    return work.counts


class _Gateways:
    """The gateway of each channel, made on first use; one that cannot be made is reported once."""

    def __init__(self, settings: Settings, given: Gateway | None, counts: DispatchCounts) -> None:
        self.settings, self.given, self.counts = settings, given, counts
        self.made: dict[str, Gateway | None] = {}
        self.by_name: dict[str, Gateway | None] = {}
        self.broken: set[str] = set()

    def get(self, channel: str) -> Gateway | None:
        """The channel's gateway, unless it cannot be made or has failed in this round."""
        if self.given is None and channel not in self.made:
            try:
                made = make_gateway(self.settings, channel)
                made.require_set_up()
                self.made[channel] = made
            except UserError as error:
                self.made[channel] = None
                self.counts.failed.append(str(error))
        gateway = self.given or self.made[channel]
        return None if gateway is None or gateway.name in self.broken else gateway

    def named(self, name: str) -> Gateway | None:
        """The gateway of that name, to look up what it was given, even if another is set now."""
        if self.given is not None:
            return self.given if self.given.name == name else None
        if name in self.broken:
            return None
        if name not in self.by_name:
            try:
                gateway = gateway_named(self.settings, name)
                gateway.require_set_up()
                self.by_name[name] = gateway
            except UserError:  # not set up any more; reconcile reports it
                self.by_name[name] = None
        return self.by_name[name]

    def failed(self, gateway: Gateway, sentence: str) -> None:
        """Leave a gateway alone for the rest of the round."""
        self.broken.add(gateway.name)
        self.counts.failed.append(sentence)


Lane = tuple[int, str]
"""Id of an occurrence and a channel: one sender for their rows, as each channel has its gateway."""


def _lanes(due: Iterable[Occurrence], over: Container[Lane]) -> list[tuple[Occurrence, str]]:
    """Occurrences and their channels, those whose turn is not over."""
    return [
        (one, channel) for one in due for channel in one.channels if (one.id, channel) not in over
    ]


def _about(occurrence: Occurrence) -> contextlib.AbstractContextManager[None]:
    return about(
        schedule=occurrence.schedule, occurrence=occurrence.name, task_id=occurrence.task_id
    )


class _Round:
    def __init__(
        self,
        store: ControlStore,
        settings: Settings,
        gateway: Gateway | None,
        now: datetime | None,
        lease: timedelta,
        look_up_again: timedelta,
        caller: Executor,
        held: Held,
    ) -> None:
        self.store, self.settings, self.fixed = store, settings, now
        self.ledger = Ledger(store, open_vault(settings.home, settings.default_country))
        self.claims = Claims(store, lease)
        self.counts = DispatchCounts()
        self.gateways = _Gateways(settings, gateway, self.counts)
        self.look_up_again, self.caller, self.held = look_up_again, caller, held
        self.senders: dict[Lane, Sender] = {}
        self.over: set[Lane] = set()
        self.house_kept = 0.0

    def now(self) -> datetime:
        """The business clock."""
        return self.fixed or business_now(self.settings)

    def run(
        self,
        progress: Callable[[int, int], None] | None,
        patience: timedelta | None,
        stop: Callable[[], bool],
    ) -> None:
        """All due occurrences, in turns."""
        began, handled = time.monotonic(), 0
        due = self.keep_house()
        total = sum(self.ledger.in_state(occurrence.id, MessageState.PLANNED) for occurrence in due)
        while due and not stop():
            moved, waits = 0, []
            for occurrence, channel in _lanes(due, self.over):
                with _about(occurrence):
                    rows, wait = self.turn(occurrence, channel)
                moved += rows
                if wait:
                    waits.append(wait)
                if progress and rows:
                    progress(min(handled + moved, total), total)
                if stop():
                    return
            handled += moved
            if patience and time.monotonic() - began > patience.total_seconds():
                return
            if not moved and waits:
                time.sleep(min(_NAP, *waits))
            if time.monotonic() - self.house_kept > _HOUSEKEEPING:
                self.over.clear()  # rows whose hour has come meanwhile
                due = self.keep_house()
            due = [one for one in due if _lanes([one], self.over)]

    def turn(self, occurrence: Occurrence, channel: str) -> tuple[int, float]:
        """One claim of an occurrence on a channel: rows handled, and seconds to wait for tokens."""
        gateway, lane = self.gateways.get(channel), (occurrence.id, channel)
        if gateway is None:
            self.over.add(lane)
            return 0, 0.0
        sender = self.senders.get(lane)
        if sender is None:
            sender = self.senders[lane] = Sender(
                self.ledger,
                self.claims,
                gateway,
                occurrence,
                self.settings,
                self.counts,
                self.caller,
                channel,
            )
            if self._stale(sender):
                self.over.add(lane)
                return 0, 0.0
            sender.begin()
        try:
            step = sender.step(self.now)
        except GatewayBrokenError as error:
            self.claims.give_back()
            self.gateways.failed(gateway, str(error))
            self.over.add(lane)
            return 0, 0.0
        except Exception as error:
            if isinstance(error, UserError) or not is_of_the_values(error):
                raise
            self.claims.give_back()
            self.counts.failed.append(
                f"schedule {occurrence.schedule}, occurrence {occurrence.name}: the dispatcher "
                f"failed with {type(error).__name__}; other campaigns go on"
            )
            self.over.add(lane)
            return 0, 0.0
        if step.over:
            self.over.add(lane)
            sender.finish()
        return step.handled, step.wait

    def _stale(self, sender: Sender) -> bool:
        """Stop an occurrence whose audience was decided too long ago."""
        decided = sender.occurrence.audience_date
        if decided is None:
            return False
        age = self.now().astimezone(self.settings.zone).date() - decided
        if age.days <= sender.rules.max_audience_days:
            return False
        sender.stop("audience_stale")
        return True

    def keep_house(self) -> list[Occurrence]:
        """Everything beside sending; returns what is due."""
        now = self.now()
        self.counts.lost += self.claims.recover()
        failpoints.reach(failpoints.RECOVERED)
        with self._holding_up_nothing("reports that wait for their message"):
            self.counts.matched += match_receipts(self.store)
        for name in self.ledger.doubtful():
            with self._holding_up_nothing(f"gateway {name}, look-ups"):
                self._settle(name)
        self.ledger.skip_cancelled()
        for late in late_occurrences(self.store, now):
            with _about(late):
                self._expire(late)
        open_due_repeats(self.store, self.settings, now)
        with self._holding_up_nothing("the search for failing campaigns"):
            self.counts.failed += [str(one) for one in report_failing(self.store, self.settings)]
        with self._holding_up_nothing("the search for stalls"):
            report_stalls(self.store, self.settings, now)
        self.house_kept = time.monotonic()
        return self._may_go(due_occurrences(self.store, now))

    def _may_go(self, due: list[Occurrence]) -> list[Occurrence]:
        """Those that are not held; what has begun is never held."""
        held = self.held([one for one in due if one.state is OccurrenceState.READY])
        self.counts.held = list(held.values())
        return [one for one in due if one.id not in held]

    @contextlib.contextmanager
    def _holding_up_nothing(self, what: str) -> Iterator[None]:
        """A step whose failure is reported, and keeps nothing else from going out."""
        try:
            yield
        except Exception as error:
            if not is_of_the_values(error):
                raise
            self.counts.failed.append(f"{what}: failed with {type(error).__name__}")

    def _settle(self, name: str) -> None:
        """Look doubtful rows up at the gateway that was given them."""
        gateway = self.gateways.named(name)
        if gateway is not None:
            settled = settle(self.ledger, gateway, first_again=self.look_up_again)
            self.counts.settled += settled.settled
            self.counts.failed += settled.failed

    def _expire(self, occurrence: Occurrence) -> None:
        """Close an occurrence past its send-by."""
        self.counts.expired += self.ledger.expire(occurrence.id)
        failpoints.reach(failpoints.EXPIRED)
        change_state(
            self.store,
            occurrence,
            OccurrenceState.DONE,
            (*READY, OccurrenceState.STOPPED),
            "its send-by has passed",
            only_if=lambda connection: not self.ledger.has_open(connection, occurrence.id),
        )
