"""A home with decided tasks, whose people the tests name themselves, and its exports."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
from chain_world import campaign

from usergrowth_dagster.audience.decisions import DECISION_COLUMNS
from usergrowth_dagster.audience.records import write_decisions
from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import load_campaign
from usergrowth_dagster.control.jobs import task_running, task_succeeded
from usergrowth_dagster.control.tasks import register_task
from usergrowth_dagster.exports.definition import Export, read_exports
from usergrowth_dagster.exports.run import Exported, run_export
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.relation import bind_arrow

DAY = date(2024, 3, 4)

HOSTILE = [
    "007",
    " spaces ",
    "tab\tand\nnewline",
    "carriage\r\nreturn",
    'quo"te',
    "it's",
    "comma,semicolon;",
    "数据 ünï 🦊",
    "e\u0301 is not \u00e9",
    "=1+1",
    "+49",
    "-5",
    "@SUM(A1)",
    "1e5",
    "1.38E+10",
    "NULL",
    "null",
    "\\N",
    "\\",
    "%s %(x)s",
    "'; drop table audience; --",
    "$1 ? :name",
    "<script>",
    "a" * 300,
]
"""User ids that a careless writer or reader changes."""

_ARROW = {
    "DATE": pa.date32(),
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "INTEGER": pa.int32(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
}


def phone(number: int) -> str:
    """A fictional number."""
    return f"+999{number:010}"


@dataclass(frozen=True)
class Person:
    """One decided row."""

    user_id: str
    arm: str = "treatment"
    outcome: str = "selected"
    score: float | None = 0.5
    item_id: str = ""
    phone: str | None = None
    email: str | None = None


class ExportDesk:
    """A home whose business clock stands on :data:`DAY`."""

    def __init__(self, home: Path) -> None:
        make_home(home, {"start_date": "2024-01-01", "today": DAY.isoformat(), "timezone": "UTC"})
        self.home = home
        self.project = Project.open(home)

    def decide(
        self, people: Sequence[Person | str], task_id: str = "care", day: date = DAY
    ) -> None:
        """Decide a task of a campaign of its name, up to the first hyphen."""
        rows = [Person(one) if isinstance(one, str) else one for one in people]
        owner = task_id.split("-", maxsplit=1)[0]
        path = self.home / f"{owner}.yaml"
        path.write_text(
            campaign(owner, population=f"population/{owner}*", execution_date="on upload")
        )
        store = self.project.store
        apply_campaign(store, load_campaign(path), "test")
        register_task(store, owner, task_id, day, "test")
        self._upload(rows, task_id, day)
        table = pa.table(
            {
                name: pa.array(
                    [_value(name, number, row, task_id, day) for number, row in enumerate(rows)],
                    _ARROW[kind],
                )
                for name, kind in DECISION_COLUMNS.items()
            }
        )
        mark = repr((rows, day))
        with open_engine(self.project.settings) as engine:
            write_decisions(
                engine,
                self.project.warehouse,
                bind_arrow(engine, "decided", table),
                execution_date=day,
                task_id=task_id,
                fingerprint=mark,
            )
        task_running(store, task_id)
        task_succeeded(store, task_id, population=len(rows), selected=len(rows))

    def _upload(self, rows: Sequence[Person], task_id: str, day: date) -> None:
        variables = [[("email", row.email)] if row.email else [] for row in rows]
        table = pa.table(
            {
                "ds": pa.array([day] * len(rows), pa.date32()),
                "task_id": pa.array([task_id] * len(rows), pa.string()),
                "row": pa.array(range(len(rows)), pa.int64()),
                "user_id": pa.array([row.user_id for row in rows], pa.string()),
                "item_id": pa.array([row.item_id for row in rows], pa.string()),
                "phone": pa.array([row.phone for row in rows], pa.string()),
                "variables": pa.array(variables, pa.map_(pa.string(), pa.string())),
            }
        )
        self.project.warehouse.replace("population", table, days=[day], scope={"task_id": task_id})

    def export(self, keys: str) -> Export:
        """Write exports.yml with one export and read it again; ``keys`` are its lines."""
        lines = "\n".join(f"    {line}" for line in keys.strip("\n").splitlines())
        path = self.home / "exports.yml"
        path.write_text(f"exports:\n  - name: people\n{lines}\n", encoding="utf-8")
        (export,) = read_exports(path)
        return export

    def run(self, export: Export, day: date = DAY, **options: Any) -> Exported:
        return run_export(self.project, export, day, actor="test", **options)


def _value(name: str, number: int, row: Person, task_id: str, day: date) -> Any:
    known = {
        "ds": day,
        "task_id": task_id,
        "campaign": task_id.split("-", maxsplit=1)[0],
        "row": number,
        "rank": number + 1 if row.arm != "none" else None,
        "messages": 1,
        "cost": 0.05,
        "propensity": 0.9,
        "model_name": "churn",
        "model_version": "1",
    }
    return known[name] if name in known else getattr(row, name, None)
