"""A decided, approved campaign and its people, for the tests of planning and dispatch."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from support.dispatch_child import D
from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import parse_campaign
from usergrowth_dagster.control.jobs import task_running, task_succeeded
from usergrowth_dagster.control.review import review
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.control.tasks import Task, task
from usergrowth_dagster.messaging.plans.plan import SendPlan, plan_send
from usergrowth_dagster.messaging.texts.content import message_columns_sql
from usergrowth_dagster.settings import Settings, load_settings

CONTENT = "亲爱的${name}，新年好。拒收请回复R"
SELECTION, SIGNATURE = "{threshold: 0.12}", "示例商店"
CAMPAIGN = f"""\
name: december
algorithm: churn
training: {{window_days: 180}}
population: population/december-2017
execution_date: 2017-12-28
selection: {SELECTION}
signature: {{name: {SIGNATURE}}}
schedule: {{name: december send}}
"""
"""The campaign of the task december-2017 without its template."""
YAML = CAMPAIGN + f'template: {{name: december offer, content: "{CONTENT}"}}\n'


def ready(home: Path, url: str, selection: str = SELECTION) -> tuple[ControlStore, Settings]:
    """As :func:`decided`, with one text."""
    return decided(home, url, YAML.replace(SELECTION, selection))


def decided(
    home: Path, url: str, text: str, *, waiting: str = "", **values: Any
) -> tuple[ControlStore, Settings]:
    """A store with an applied, decided and approved campaign, and settings pinned to its date.

    Args:
        home: the home's folder.
        url: the database's.
        text: the campaign file, see :data:`CAMPAIGN`.
        waiting: name of a text that is not approved.
        values: further settings.
    """
    settings = load_settings(home, database_url=url, today=D, **values)
    store = ControlStore(settings.database, settings.zone)
    store.migrate()
    spec = parse_campaign(text)
    apply_campaign(store, spec, "ann")
    task_running(store, "december-2017")
    task_succeeded(store, "december-2017", population=10, selected=3)
    review(store, "signature", spec.signature.name, True, None, "bob")
    for name in (one.name for one in spec.template.texts):
        if name != waiting:
            review(store, "template", name, True, None, "bob")
    return store, settings


def the_task(store: ControlStore) -> Task:
    return task(store, "december-2017")


def people(rows: list[tuple[str, str | None, str | None]]) -> pa.Table:
    """Plan rows of (user, phone, name), with the columns computed in SQL as the product does."""
    connection = duckdb.connect(config={"threads": 1})
    connection.execute(
        "create table t (place bigint, user_id varchar, phone varchar, name varchar)"
    )
    connection.executemany(
        "insert into t values (?, ?, ?, ?)", [(i, *row) for i, row in enumerate(rows)]
    )
    return connection.sql(
        f"""
        select user_id, 'item' as item_id, phone, {message_columns_sql(CONTENT, SIGNATURE)}
        from (select *, map_from_entries([struct_pack(k := 'name', v := name)]) as variables from t)
        order by place
        """
    ).to_arrow_table()


def crowd(size: int) -> pa.Table:
    """So many people, all of whom can be sent to."""
    columns = message_columns_sql(CONTENT, SIGNATURE)
    return (
        duckdb.connect(config={"threads": 1})
        .sql(
            f"""
        select 'u' || n as user_id, 'item' as item_id, '+999' || lpad(n::varchar, 10, '0') as phone,
            {columns}
        from (select n, map_from_entries([struct_pack(k := 'name', v := '客' || n)]) as variables
              from range({size}) r(n))
        order by n
        """
        )
        .to_arrow_table()
    )


def plan(store: ControlStore, settings: Settings, table: pa.Table) -> SendPlan:
    return plan_send(store, settings, the_task(store), table.to_batches(1000))


def outbox(settings: Settings) -> list[dict[str, object]]:
    """Everything that the file gateway has written."""
    return [
        json.loads(line)
        for path in sorted((settings.home / "outbox").rglob("*.jsonl"))
        for line in path.read_text("utf-8").splitlines()
    ]
