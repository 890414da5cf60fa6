"""Figures are right while texts go out, cost little, and name nobody."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from support.dispatch_desk import Desk, Provider, tuned
from support.figures import Samples, samples, scraped, unused_port
from support.phones import phone
from support.sending import crowd, plan

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.dispatching.results import DispatchCounts
from usergrowth_dagster.messaging.operations.backlog import Backlog
from usergrowth_dagster.monitoring import backlog_gauges
from usergrowth_dagster.monitoring.backlog_gauges import BacklogGauges
from usergrowth_dagster.monitoring.endpoint import Watched, shown
from usergrowth_dagster.monitoring.process_figures import (
    OUTCOMES,
    DispatchFigures,
    new_registry,
)

SIZE = 1_500


@contextmanager
def scrapers(port: int, at_once: int) -> Iterator[list[list[Samples]]]:
    """So many monitors that ask without a pause; what each one saw."""
    seen: list[list[Samples]] = [[] for _ in range(at_once)]
    over = threading.Event()

    def ask(mine: list[Samples]) -> None:
        while not over.is_set():
            mine.append(scraped(port))

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in seen]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join(timeout=60)


def test_scrapes_while_texts_go_out(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a scrape that holds up or disturbs a send, and against figures that jump."""
    monkeypatch.setattr(backlog_gauges, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(backlog_gauges, "COST_SHARE", 0)
    store, settings = tuned(desk, gateway_rate=1e6, gateway_burst=100_000)
    plan(store, settings, crowd(SIZE))
    registry, port = new_registry(), unused_port()
    figures = DispatchFigures(registry)
    provider = Provider()
    said: list[str] = []
    with shown(registry, store, settings, Watched(port=port), said.append):
        before = scraped(port)
        with scrapers(port, 3) as seen:
            figures.after_round(dispatch(store, settings, provider))
        after = scraped(port)
    assert said == [f"figures at http://127.0.0.1:{port}/metrics"]
    assert set(provider.taken.values()) == {1} and len(provider.taken) == SIZE
    planned = ("usergrowth_queue_messages", ("planned",))
    assert (before[planned], after[planned]) == (SIZE, 0)
    assert before["usergrowth_due_messages", ()] == SIZE
    assert after["usergrowth_dispatched_messages_total", ("accepted",)] == SIZE
    assert after["usergrowth_dispatch_rounds_total", ("done",)] == 1
    for mine in seen:
        assert mine, "a monitor got no answer while texts went out"
        assert all(one["usergrowth_store_up", ()] == 1 for one in mine)
        left = [one[planned] for one in mine]
        assert left == sorted(left, reverse=True)
    for one in (one for mine in seen for one in mine):
        on_the_way = sum(v for (name, _), v in one.items() if name == "usergrowth_queue_messages")
        assert on_the_way <= SIZE


def test_counting_takes_a_small_part_of_the_time() -> None:
    """Guards against many monitors, or a large backlog, that keep the database busy."""
    now, reads = [0.0], [0]

    def read() -> Backlog:
        reads[0] += 1
        now[0] += 3.0  # what counting takes
        time.sleep(0.05)
        return Backlog(due=reads[0])

    gauges = BacklogGauges(read, clock=lambda: now[0])
    registry = CollectorRegistry()
    registry.register(gauges)
    assert reads == [0], "registering the gauges asked the database"
    threads = [threading.Thread(target=generate_latest, args=(registry,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reads == [1]
    now[0] += 59.0
    assert registry.get_sample_value("usergrowth_due_messages") == 1
    now[0] += 2.0
    assert registry.get_sample_value("usergrowth_due_messages") == 2


def test_a_store_that_does_not_answer_is_a_figure() -> None:
    """Guards against a scrape that fails with the database, and against old counts shown as new."""

    def read() -> Backlog:
        raise OSError(f"no way to {phone(1)}")

    registry = CollectorRegistry()
    registry.register(BacklogGauges(read))
    text = generate_latest(registry).decode()
    assert samples(text) == {("usergrowth_store_up", ()): 0}
    assert phone(1) not in text


def test_rounds_that_fail_are_seen() -> None:
    """Guards against a dispatcher that fails each round and looks as if it worked."""
    registry = CollectorRegistry()
    figures = DispatchFigures(registry, clock=lambda: 7.0)
    figures.after_round(None)
    last = "usergrowth_dispatch_last_round_timestamp_seconds"
    assert registry.get_sample_value(last) == 0
    assert registry.get_sample_value("usergrowth_dispatch_rounds_total", {"result": "failed"}) == 1
    figures.after_round(DispatchCounts(lost=2, batches=3, held=["x"], failed=["y"], stopped=["z"]))
    assert registry.get_sample_value(last) == 7
    for name, value in (
        ("usergrowth_provider_calls_total", 3),
        ("usergrowth_dispatch_held", 1),
        ("usergrowth_dispatch_troubles_total", 1),
        ("usergrowth_dispatch_stops_total", 1),
    ):
        assert registry.get_sample_value(name) == value
    numbers = {k for k, v in DispatchCounts().as_dict().items() if isinstance(v, int)}
    assert set(OUTCOMES) == numbers - {"batches"}


def test_a_taken_port_is_one_sentence(desk: Desk) -> None:
    """Guards against a traceback where two processes want one port."""
    store, settings = desk
    port = unused_port()
    watched = Watched(port=port)
    with (
        shown(new_registry(), store, settings, watched, lambda _: None),
        pytest.raises(UserError, match=rf"127\.0\.0\.1:{port}: Address already in use"),
        shown(new_registry(), store, settings, watched, lambda _: None),
    ):
        raise AssertionError("two listen on one port")
