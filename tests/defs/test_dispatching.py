"""The dispatch job, its schedule and the watch for stalls, on a small ledger."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.defs.build import build_definitions
from usergrowth_dagster.defs.resources import ProjectResource

sys.path.insert(0, str(Path(__file__).parents[1] / "crash"))
from worlds import DUE, World, make_world


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Two campaigns of five people, due on the pinned date."""
    home = tmp_path / "home"
    monkeypatch.setenv("USERGROWTH_TODAY", DUE.date().isoformat())
    return make_world("w", "plain", f"sqlite:///{home / 'control.db'}", home, 10)


def states(world: World) -> set[MessageState]:
    store = ControlStore(world.url)
    with store.read() as connection:
        return set(connection.scalars(select(schema.message.c.state)))


def test_a_minute_of_dispatch(world: World) -> None:
    """Guards against a schedule that starts runs for nothing, or a run that sends nothing."""
    home = str(world.settings.home)
    definitions = build_definitions(home)
    schedule = definitions.get_repository_def().get_schedule_def("dispatch")

    def tick() -> object:
        context = dg.build_schedule_context(scheduled_execution_time=datetime.now(UTC))
        return schedule(context)

    assert isinstance(tick(), dg.RunRequest)
    job = definitions.resolve_job_def("dispatch")
    done = job.execute_in_process(resources={"project": ProjectResource(home=home)})
    assert done.success
    assert states(world) == {MessageState.ACCEPTED}
    assert isinstance(tick(), dg.SkipReason)
    store = ControlStore(world.url)
    with store.write() as connection:  # its hour is still to come
        connection.execute(
            schema.message.update().values(
                state=MessageState.PLANNED, not_before=datetime(2026, 3, 2, 8, tzinfo=UTC)
            )
        )
    assert isinstance(tick(), dg.SkipReason)


def test_a_stall_is_seen(world: World) -> None:
    """Guards against due messages that nobody sends and nobody hears of."""
    definitions = build_definitions(str(world.settings.home))
    sensor = definitions.get_repository_def().get_sensor_def("stalled_deliveries")

    def tick() -> str:
        with dg.DagsterInstance.ephemeral() as instance:
            evaluated = sensor.evaluate_tick(dg.build_sensor_context(instance=instance))
        assert not evaluated.run_requests
        return str(evaluated.skip_message)

    assert tick() == "nothing is stalled"
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    store = ControlStore(world.url)
    with store.write() as connection:
        for table in (schema.message, schema.occurrence, schema.schedule):
            connection.execute(table.update().values(updated_time=long_ago))
    assert "due, but no message has gone out since 2026-01-01" in tick()
    assert store.history is not None
