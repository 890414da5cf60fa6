"""Records created or changed from a campaign file, field by field, and the lines that report it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from usergrowth_dagster.control.codes import Kind, ReviewStatus
from usergrowth_dagster.control.store import TABLES, ControlStore, utc_now


@dataclass
class Applied:
    """What applying a campaign did.

    ``created`` and ``changed`` name records (``template 'winter'``; changed ones with their
    fields), ``notes`` say what a person should know, ``task_id`` is the task registered, if any.
    """

    campaign: str
    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    task_id: str | None = None

    @property
    def unchanged(self) -> bool:
        """Whether everything was there already."""
        return not self.created and not self.changed

    def __str__(self) -> str:
        """One sentence for a person."""
        if self.unchanged:
            parts = ["nothing has changed"]
        else:
            parts = [f"created {', '.join(self.created)}"] if self.created else []
            parts += [f"changed {', '.join(self.changed)}"] if self.changed else []
        return f"campaign {self.campaign!r}: " + "; ".join([*parts, *self.notes])


class Work:
    """One application inside one transaction."""

    def __init__(self, store: ControlStore, connection: Connection, actor: str, name: str) -> None:
        self.store, self.connection, self.actor = store, connection, actor
        self.applied = Applied(name)

    def upsert(
        self, kind: Kind, name: str, values: Mapping[str, Any], fresh: Mapping[str, Any]
    ) -> tuple[int, set[str]]:
        """Create the named record, or change the fields that differ; returns id and those."""
        table, now = TABLES[kind], utc_now()
        label = f"{kind.replace('_', ' ')} {name!r}"
        row = self.connection.execute(select(table).where(table.c.name == name)).mappings().first()
        if row is None:
            made = self.connection.execute(
                table.insert().values(
                    name=name, created_time=now, updated_time=now, **values, **fresh
                )
            )
            record_id = int(made.inserted_primary_key[0])  # type: ignore[index]
            self.applied.created.append(label)
            status = fresh.get("status")
            self.store.note(
                self.connection, kind, record_id, self.actor, target=status, note="created"
            )
            return record_id, set()
        differing = {key: value for key, value in values.items() if row[key] != value}
        if differing:
            self.connection.execute(
                table.update().where(table.c.id == row["id"]).values(updated_time=now, **differing)
            )
        if names := ", ".join(sorted(_named(differing, row))):
            self.applied.changed.append(f"{label}: {names}")
            self.store.note(self.connection, kind, row["id"], self.actor, note=f"changed: {names}")
        return int(row["id"]), set(differing)

    def review_again(self, kind: Kind, record_id: int, name: str) -> None:
        """Send a changed signature or template back to review."""
        table = TABLES[kind]
        status = self.connection.scalar(select(table.c.status).where(table.c.id == record_id))
        if status is not ReviewStatus.REVIEWING:
            self.store.move(
                self.connection,
                kind,
                record_id,
                ReviewStatus.REVIEWING,
                self.actor,
                note="content changed",
                values={"reason": None},
            )
        self.applied.notes.append(f"{kind} {name!r} has changed and must be reviewed again")


def _named(differing: Mapping[str, Any], row: RowMapping) -> list[str]:
    """Names of changed fields; those of a campaign by their key paths in its file."""
    if "spec" not in differing:
        return list(differing)
    new, old = _flat(differing["spec"]), _flat(row["spec"])
    return [key for key in {**old, **new} if new.get(key) != old.get(key)]


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {path: value}
    return {
        key: part
        for name, inner in value.items()
        for key, part in _flat(inner, f"{path}.{name}" if path else name).items()
    }
