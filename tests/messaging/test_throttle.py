"""The token bucket by itself, on SQLite and PostgreSQL."""

from datetime import UTC, datetime, timedelta

import pytest
from support.ledger_rows import open_store

from usergrowth_dagster.messaging.dispatching import throttle
from usergrowth_dagster.messaging.dispatching.throttle import Bucket


def test_an_idle_night_saves_no_more_than_the_burst(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens that pile up while nothing is sent, and go out at once in the morning."""
    moment = [datetime(2026, 3, 4, tzinfo=UTC)]
    monkeypatch.setattr(throttle, "database_clock", lambda connection: moment[0])
    store = open_store(database_url)
    bucket = Bucket.of("aliyun", "Shop", rate=50.0, burst=20.0)
    with store.write() as connection:
        assert bucket.grant(connection, ready=400, full=100) == (20, 0.0)
        bucket.spend(connection, 20)
        moment[0] += timedelta(seconds=0.2)
        assert bucket.tokens(connection) == pytest.approx(10)
        moment[0] += timedelta(hours=12)
        assert bucket.tokens(connection) == 20
        assert bucket.grant(connection, ready=400, full=100) == (20, 0.0)
    store.close()


@pytest.mark.parametrize(
    ("rate", "burst", "expected"),
    [(50.0, None, 50.0), (0.2, None, 1.0), (50.0, 0.5, 1.0), (None, None, 1.0), (2.0, 9.0, 9.0)],
)
def test_a_bucket_holds_a_seconds_messages_and_at_least_one(
    rate: float | None, burst: float | None, expected: float
) -> None:
    """A rate below one a second whose bucket never holds a whole token, so that nothing is sent."""
    assert Bucket.of("aliyun", "Shop", rate, burst).burst == expected
