"""The decisions table: idempotent, frozen when relied upon, one task beside another."""

from datetime import date, timedelta

import pyarrow as pa
import pytest
from support.decided import decided_table, read_decisions
from test_audience_decisions import DAY, SCHEMA, outcomes, person

from usergrowth_dagster.audience.decisions import decide
from usergrowth_dagster.audience.holdout import Holdout
from usergrowth_dagster.audience.policy import Threshold, TopN
from usergrowth_dagster.audience.records import (
    TABLE,
    check_task_id,
    decision_fingerprint,
    decision_state,
    write_decisions,
)
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.relation import bind_arrow
from usergrowth_dagster.warehouse.tables import Warehouse


@pytest.fixture
def warehouse(tmp_path):
    return Warehouse(Storage(str(tmp_path / "storage")))


@pytest.fixture
def engine(tmp_path):
    with open_engine(load_settings(tmp_path)) as opened:
        yield opened


def decided(engine, threshold, task="spring", day=DAY):
    people = [person(n, f"u{n}", n / 10) for n in range(10)]
    schema = pa.schema(list(SCHEMA.items()))
    engine.bind_arrow("scored", pa.Table.from_pylist(people, schema=schema))
    rows = decide(
        engine, "scored", task_id=task, execution_date=day, campaign="C",
        policy=Threshold(threshold=threshold), holdout=Holdout(share=0),
    )  # fmt: skip
    return decided_table(engine, rows)


def put(engine, warehouse, table, mark, task="spring", day=DAY, frozen=False):
    rows = bind_arrow(engine, "decided", table)
    return write_decisions(
        engine, warehouse, rows, execution_date=day, task_id=task, fingerprint=mark, frozen=frozen
    )


def test_same_inputs_write_nothing_and_frozen_stays(engine, warehouse):
    """Guards against an approved or sent decision being remade, and against a re-run that adds a
    version to the table."""
    loose, strict = decided(engine, 0.2), decided(engine, 0.7)
    assert decision_state(warehouse, DAY, "spring", "a") == "new"
    assert put(engine, warehouse, loose, "a", frozen=True).state == "new"  # nothing yet to be kept
    version = warehouse.version(TABLE)
    assert put(engine, warehouse, loose, "a").state == "unchanged"
    kept = put(engine, warehouse, strict, "b", frozen=True)
    assert kept.state == "frozen" and "stays as it is" in kept.message
    assert warehouse.version(TABLE) == version
    assert read_decisions(engine, warehouse, DAY, "spring").equals(loose)
    assert put(engine, warehouse, strict, "b").state == "changed"
    assert read_decisions(engine, warehouse, DAY, "spring").equals(strict)
    assert (
        put(engine, warehouse, loose, "a").state == "changed"
    )  # back to a: the newest commit counts


@pytest.mark.parametrize("task", ["001", "spring sale", "春季", "a=b%20c", "2017-10-02", "1e5"])
def test_task_ids_survive_the_folder_names(engine, warehouse, task):
    """Guards against a task id read back as a number or a date, or undecoded, from its folder."""
    put(engine, warehouse, decided(engine, 0.5, task), "a", task)
    assert read_decisions(engine, warehouse, DAY, task).column("task_id").unique().to_pylist() == [
        task
    ]
    assert decision_state(warehouse, DAY, task, "a") == "unchanged"


def test_tasks_and_days_do_not_touch_each_other(engine, warehouse):
    """Guards against a task's decision wiping another's of the same day, or another day's."""
    later = DAY + timedelta(days=1)
    put(engine, warehouse, decided(engine, 0.2), "a")
    put(engine, warehouse, decided(engine, 0.7, "autumn"), "a", "autumn")
    put(engine, warehouse, decided(engine, 0.8, "spring", later), "a", day=later)
    assert decision_state(warehouse, DAY, "spring", "a") == "unchanged"
    for task, day, chosen in (("spring", DAY, 7), ("autumn", DAY, 2), ("spring", later, 1)):
        by_row = outcomes(read_decisions(engine, warehouse, day, task))
        assert list(by_row.values()).count("selected") == chosen
    assert read_decisions(engine, warehouse, date(2017, 1, 1), "spring").num_rows == 0
    with pytest.raises(ValueError, match="other tasks"):
        put(engine, warehouse, decided(engine, 0.2), "b", "autumn")


def test_fingerprint_follows_every_input():
    """Guards against an input that changes the decision and not its fingerprint."""
    base = {
        "population": "1", "features": ["a", "b"], "model": "winback/3",
        "policy": TopN(n=3), "holdout": Holdout(share=0.1), "extra": {"template": "x"},
    }  # fmt: skip
    changes = {
        "population": "2", "features": ["a"], "model": "winback/4", "policy": TopN(n=4),
        "holdout": Holdout(share=0.1, epoch="2"), "extra": {"template": "y"},
    }  # fmt: skip
    marks = [decision_fingerprint(**(base | {key: value})) for key, value in changes.items()]
    first = decision_fingerprint(**base)
    assert len({first, *marks}) == len(changes) + 1
    assert decision_fingerprint(**(base | {"features": ["b", "a"]})) == first


@pytest.mark.parametrize("task", ["", "a'b", "a/b", "..", "a\nb", "x" * 129])
def test_a_task_id_that_cannot_name_a_folder_is_refused(task):
    """Guards against a quote that ends the delete predicate, and a path out of the folder."""
    with pytest.raises(UserError, match="task id"):
        check_task_id(task)
