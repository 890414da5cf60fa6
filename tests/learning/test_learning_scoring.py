"""Batches read ahead of the model, and values that are new to it."""

import threading
from types import SimpleNamespace

import pyarrow as pa
import pytest
from learning_frames import make_churn

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.encoding import fit_spec, map_keys
from usergrowth_dagster.learning.scoring import Unseen, ahead


def test_batches_arrive_whole_in_order_and_with_their_error():
    """Guards against a reader's failure that ends the scoring as if all rows had been read."""

    def three():
        yield from (1, 2, 3)
        raise OSError("the file is gone")

    assert list(ahead(range(50))) == list(range(50)) and list(ahead([])) == []
    batches = []
    with pytest.raises(OSError, match="the file is gone"):
        for batch in ahead(three()):
            batches.append(batch)
    assert batches == [1, 2, 3]


def test_a_stopped_reader_leaves_no_thread():
    """Guards against a thread that goes on reading a connection which is closed by then."""
    batches = ahead(range(50))
    assert next(batches) == 0
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("usergrowth-scoring")]


def test_new_values_are_the_same_counted_in_parts_and_at_once(engine):
    """Guards against a count in the scoring's pass that differs from the keys and values there."""
    make_churn(engine, users=80, weeks=4)
    spec = fit_spec(engine, "churn_training")
    engine.run(
        "create table serving as select * replace (case when user_id < 'u000040' then "
        "map {'buy': 1.0, 'new': 2.0, 'newer': 0.0} when user_id < 'u000060' then null "
        "else kind_events_30d end as kind_events_30d, concat('other', user_type) as user_type) "
        "from churn_training"
    )
    model = SimpleNamespace(spec=spec, reference=None, ref=SimpleNamespace(name="churn", version=1))
    once, parts = Unseen(model), Unseen(model)
    once.add(engine.rows(f"select {once.sums} from serving")[0])
    for batch in engine.stream(f"select {parts.columns}user_id from serving", 70):
        parts.count(pa.Table.from_batches([batch]))
    assert parts.counts == once.counts
    keys = map_keys(engine, "serving", ["kind_events_30d"], "true")
    place = 2 * parts._what.index("values in kind_events_30d, by their keys,")
    new = sum(rows for _, key, rows in keys if key not in spec.keys["kind_events_30d"])
    assert parts.counts[place : place + 2] == [new, sum(rows for _, _, rows in keys)]
    parts.require(1.0)
    with pytest.raises(UserError, match="values of user_type are new to it"):
        parts.require(0.95)
