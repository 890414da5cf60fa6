"""The batching event log says what the stock one says, whole batches at a time, under load."""

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType, StepMaterializationData
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.utils import make_new_run_id
from sqlalchemy.exc import IntegrityError

from usergrowth_dagster.defs.event_log import BatchingSqliteEventLogStorage
from usergrowth_dagster.defs.postgres_storage import storage_of
from usergrowth_dagster.homes.home import DAGSTER_YAML
from usergrowth_dagster.settings import load_settings

DAYS = [f"2017-03-{day:02d}" for day in range(1, 29)]
PARTITIONS = dg.DailyPartitionsDefinition("2017-03-01", end_date="2017-04-01")


def materialized(run_id: str, asset: str, days: Sequence[str]) -> list[EventLogEntry]:
    """The events of a step that wrote some days of an asset."""
    return [
        EventLogEntry(
            error_info=None,
            level="debug",
            user_message="",
            run_id=run_id,
            timestamp=time.time(),
            step_key=asset,
            job_name="ingest",
            dagster_event=DagsterEvent(
                DagsterEventType.ASSET_MATERIALIZATION.value,
                "ingest",
                step_key=asset,
                event_specific_data=StepMaterializationData(
                    dg.AssetMaterialization(
                        asset, partition=day, metadata={"dagster/row_count": 7}, tags={"k": day}
                    )
                ),
            ),
        )
        for day in days
    ]


def seen(storage: SqliteEventLogStorage, asset: str) -> set[str]:
    """What the UI's partition bar shows of an asset."""
    return storage.get_materialized_partitions(dg.AssetKey(asset))


@pytest.fixture
def storage(tmp_path: Path) -> BatchingSqliteEventLogStorage:
    """An empty log."""
    return BatchingSqliteEventLogStorage(str(tmp_path / "batching"))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> SqlEventLogStorage:
    """An empty log of a home, on either database."""
    if request.param == "sqlite":
        return BatchingSqliteEventLogStorage(str(tmp_path / "batching"))
    from database_fixtures import create_database  # not there for the writers' processes

    url = create_database(request.getfixturevalue("postgres_server"))
    settings = load_settings(tmp_path / "home", database_url=url, one_database=True)
    return storage_of(settings).event_log_storage  # type: ignore[return-value]


def test_same_answers_as_the_stock_log(
    tmp_path: Path, storage: BatchingSqliteEventLogStorage
) -> None:
    """A batched event that misses a table the UI reads: partitions, tags, latest, counts."""
    stock = SqliteEventLogStorage(str(tmp_path / "stock"))
    runs = [make_new_run_id() for _ in range(3)]
    for number, run_id in enumerate(runs):
        for asset in ("raw_user", "user_day"):
            events = materialized(run_id, asset, DAYS[number * 5 : number * 5 + 12])
            storage.store_event_batch(events)
            for event in events:
                stock.store_event(event)
    keys = [dg.AssetKey("raw_user"), dg.AssetKey("user_day")]

    def answers(log: SqliteEventLogStorage) -> list[object]:
        records = log.fetch_materializations(keys[0], limit=1000).records
        latest = log.get_latest_materialization_events(keys)
        return [
            [seen(log, name) for name in ("raw_user", "user_day")],
            log.get_materialized_partitions(keys[0], after_cursor=10),
            [(r.partition_key, r.run_id, r.storage_id) for r in records],
            log.get_latest_storage_id_by_partition(
                keys[0], DagsterEventType.ASSET_MATERIALIZATION, set(DAYS)
            ),
            {key: (e.run_id, e.asset_materialization.partition) for key, e in latest.items() if e},  # type: ignore[union-attr]
            log.get_event_tags_for_asset(keys[1], filter_tags={"k": DAYS[0]}),
            [log.get_stats_for_run(run_id).materializations for run_id in runs],
            [len(log.get_logs_for_run(run_id)) for run_id in runs],
            sorted(key.to_user_string() for key in log.all_asset_keys()),
            [
                (r.asset_entry.asset_key, r.asset_entry.last_run_id)
                for r in log.get_asset_records(keys)
            ],
            sorted(log.get_all_run_ids()),
        ]

    assert answers(storage) == answers(stock)
    # The files are those of the stock log: it can read them, and go on writing to them.
    again = SqliteEventLogStorage(str(tmp_path / "batching"))
    assert answers(again) == answers(stock)
    again.store_event(materialized(runs[0], "raw_user", DAYS[-1:])[0])
    assert DAYS[-1] in seen(storage, "raw_user")


def test_a_batch_is_all_or_nothing(tmp_path: Path, storage: BatchingSqliteEventLogStorage) -> None:
    """An error half-way leaves days in the run's log that the index does not know."""
    run_id = make_new_run_id()
    storage.store_event_batch(materialized(run_id, "raw_user", DAYS[:3]))
    index = sqlite3.connect(tmp_path / "batching" / "index.db", isolation_level=None)
    index.execute(
        f"create trigger full before insert on event_logs when new.partition = '{DAYS[8]}' "
        "begin select raise(abort, 'disk full'); end"
    )
    with pytest.raises(IntegrityError, match="disk full"):
        storage.store_event_batch(materialized(run_id, "raw_user", DAYS[3:]))
    assert seen(storage, "raw_user") == set(DAYS[:3])
    assert len(storage.get_logs_for_run(run_id)) == 3
    # and the log is not left inside the broken batch
    index.execute("drop trigger full")
    index.close()
    storage.store_event_batch(materialized(run_id, "raw_user", DAYS[3:]))
    assert seen(storage, "raw_user") == set(DAYS)
    storage.store_event(materialized(run_id, "raw_item", DAYS[:1])[0])
    assert seen(storage, "raw_item") == {DAYS[0]}


def test_a_batch_is_of_one_run(storage: BatchingSqliteEventLogStorage) -> None:
    """Events of a second run land in the database of the first, where nobody looks for them."""
    events = [materialized(make_new_run_id(), "raw_user", DAYS[:2])[0] for _ in range(2)]
    with pytest.raises(ValueError, match="values to unpack"):
        storage.store_event_batch(events)
    assert seen(storage, "raw_user") == set()


def test_readers_go_on_while_a_batch_is_written(
    tmp_path: Path, storage: BatchingSqliteEventLogStorage
) -> None:
    """The UI waits for a long batch, or sees half of one."""
    other = BatchingSqliteEventLogStorage(str(tmp_path / "batching"))  # as another process
    sizes: list[int] = []
    waits: list[float] = []
    done = threading.Event()
    problems: list[BaseException] = []

    def read() -> None:
        try:
            while not done.is_set():
                began = time.perf_counter()
                sizes.append(len(seen(other, "raw_user")))
                waits.append(time.perf_counter() - began)
        except BaseException as error:
            problems.append(error)

    storage.store_event_batch(materialized(make_new_run_id(), "raw_user", DAYS[:1]))
    reader = threading.Thread(target=read)
    reader.start()
    for start in range(1, len(DAYS), 9):
        storage.store_event_batch(
            materialized(make_new_run_id(), "raw_user", DAYS[start : start + 9])
        )
    done.set()
    reader.join()
    assert not problems
    assert set(sizes) <= {1, 10, 19, 28}
    assert max(waits) < 5


def test_threads_share_one_log(storage: BatchingSqliteEventLogStorage) -> None:
    """Two threads in batches at once deadlock, or write into each other's transaction."""
    problems: list[BaseException] = []

    def write(asset: str) -> None:
        try:
            run_id = make_new_run_id()
            for start in range(0, len(DAYS), 7):
                storage.store_event_batch(materialized(run_id, asset, DAYS[start : start + 7]))
                storage.get_logs_for_run(run_id)
        except BaseException as error:
            problems.append(error)

    names = ["raw_user", "raw_item", "raw_behavior"]
    threads = [threading.Thread(target=write, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not problems
    assert not any(thread.is_alive() for thread in threads)
    assert all(seen(storage, name) == set(DAYS) for name in names)


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from test_event_log_batches import *
storage = BatchingSqliteEventLogStorage(sys.argv[2])
for start in range(0, len(DAYS), 4):
    storage.store_event_batch(materialized(make_new_run_id(), sys.argv[3], DAYS[start:start + 4]))
"""


def test_processes_share_one_log(tmp_path: Path) -> None:
    """Two runs in processes of their own: "database is locked" instead of waiting."""
    here, base = str(Path(__file__).parent), str(tmp_path / "batching")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, here, base, name],
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("raw_user", "raw_item")
    ]
    errors = [writer.communicate(timeout=120)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], errors
    log = SqliteEventLogStorage(base)
    assert seen(log, "raw_user") == seen(log, "raw_item") == set(DAYS)


def test_a_run_on_the_homes_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dagster.yaml that a home gets names a log that Dagster cannot make or that loses events."""
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(DAGSTER_YAML, encoding="utf-8")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")

    @dg.asset(partitions_def=PARTITIONS, backfill_policy=dg.BackfillPolicy.single_run())
    def made() -> None:
        return None

    @dg.asset(
        partitions_def=PARTITIONS, backfill_policy=dg.BackfillPolicy.single_run(), deps=[made]
    )
    def broken() -> None:
        raise dg.Failure("no such file")

    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert isinstance(instance.event_log_storage, BatchingSqliteEventLogStorage)
        tags = {
            "dagster/asset_partition_range_start": DAYS[0],
            "dagster/asset_partition_range_end": DAYS[-1],
        }
        result = dg.materialize([made, broken], instance=instance, tags=tags, raise_on_error=False)
        assert not result.success
        assert instance.get_materialized_partitions(made.key) == set(DAYS)
        assert instance.get_materialized_partitions(broken.key) == set()
        run = instance.get_run_by_id(result.run_id)
        assert run is not None and run.status == dg.DagsterRunStatus.FAILURE
        failed = instance.get_records_for_run(
            result.run_id, of_type=DagsterEventType.STEP_FAILURE
        ).records
        assert len(failed) == 1
    files = sorted(path.name for path in (home / "history" / "runs").glob("*.db"))
    assert files == sorted(["index.db", f"{result.run_id}.db"])
    with sqlite3.connect(home / "history" / "runs" / "index.db") as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]


def test_a_step_queued_as_its_place_comes_free(
    log: SqlEventLogStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that waits for ever: another one freed its place between the look and the queueing."""
    pool, before, after = "training", make_new_run_id(), make_new_run_id()
    log.set_concurrency_slots(pool, 1)
    assert log.claim_concurrency_slot(pool, before, "model").is_claimed
    queue = log.add_pending_step

    def free_and_queue(*arguments: object, **named: object) -> None:
        log.free_concurrency_slots_for_run(before)
        queue(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(log, "add_pending_step", free_and_queue)
    assert not log.claim_concurrency_slot(pool, after, "model").is_claimed
    assert log.claim_concurrency_slot(pool, after, "model").is_claimed


def test_a_step_waits_while_its_place_is_taken(log: SqlEventLogStorage) -> None:
    """Two steps in a pool of one."""
    pool, first, second = "training", make_new_run_id(), make_new_run_id()
    log.set_concurrency_slots(pool, 1)
    assert log.claim_concurrency_slot(pool, first, "model").is_claimed
    for _ in range(3):
        assert not log.claim_concurrency_slot(pool, second, "model").is_claimed
    log.free_concurrency_slots_for_run(first)
    assert log.claim_concurrency_slot(pool, second, "model").is_claimed


def test_batches_on_either_database(log: SqlEventLogStorage) -> None:
    """A batch that a database refuses, or of which the partition bar lacks days."""
    run_id = make_new_run_id()
    log.store_event_batch(materialized(run_id, "raw_user", DAYS[:5]))
    log.store_event_batch(materialized(run_id, "raw_user", DAYS[3:]))
    assert log.get_materialized_partitions(dg.AssetKey("raw_user")) == set(DAYS)
    assert len(log.get_logs_for_run(run_id)) == 5 + len(DAYS) - 3


def test_the_webserver_reads_the_log(log: SqlEventLogStorage) -> None:
    """A driver whose connection is closed when the webserver has set its time-out."""
    run_id = make_new_run_id()
    log.store_event_batch(materialized(run_id, "raw_user", DAYS[:2]))
    log.optimize_for_webserver(statement_timeout=5_000, pool_recycle=60, max_overflow=2)
    assert len(log.get_logs_for_run(run_id)) == 2
