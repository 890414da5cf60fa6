"""Looking for reports that wait costs nothing where none waits, however many have come."""

from pathlib import Path

from sqlalchemy import event
from support.ledger_rows import NOW, open_store

from usergrowth_dagster.control import schema
from usergrowth_dagster.messaging.receiving.receipts import match_receipts


def test_the_search_for_waiting_reports_goes_by_their_index(tmp_path: Path) -> None:
    """Guards against a receiver that reads every report that ever came, every two seconds."""
    store = open_store(f"sqlite:///{tmp_path / 'control.db'}")
    asked: list[str] = []
    event.listen(
        store.engine, "before_cursor_execute", lambda _c, _cursor, sql, *_: asked.append(sql)
    )
    assert match_receipts(store, NOW) == 0
    (search,) = asked
    with store.read() as connection:
        plan = connection.exec_driver_sql(f"explain query plan {search}", (1, 0)).all()
    (index,) = [one for one in schema.receipt.indexes if one.name == "ix_receipt_pending"]
    assert str(index.name) in str(plan), plan
    store.close()
