"""Which model a task is scored by, whose word that needs, and the record of that word."""

from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

from usergrowth_dagster.control import audit
from usergrowth_dagster.control.jobs import training_failure
from usergrowth_dagster.control.model_digests import begin, begun, keep_digest, read_digest
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.models import load_graph

if TYPE_CHECKING:
    from usergrowth_dagster.control.store import ControlStore
    from usergrowth_dagster.learning.reviewing import Change
    from usergrowth_dagster.learning.store import ModelRef


def serving_columns(training_table: str) -> dict[str, str]:
    """Column → SQL type of the tables that people are scored from, for a model of some rows."""
    graph = load_graph()
    found: dict[str, str] = {}
    for table in graph.models[training_table].inherit:
        found |= graph.types(table)
    return found


def settle_models(project: Project, name: str) -> "list[Change]":
    """Make whole what a person did in MLflow's pages, and write it into the audit log."""
    from usergrowth_dagster.learning.reviewing import settle

    if not begun(project.store, name):
        _adopt(project, name)
    changes = settle(project.settings, name)
    for change in changes:
        record_change(project.store, change, change.ref.reviewed_by)
    return changes


def _adopt(project: Project, name: str) -> None:
    """Keep digests of a model from now on; versions made before have the files they have now."""
    from usergrowth_dagster.learning.artifacts import model_digest
    from usergrowth_dagster.learning.reviewing import set_tags
    from usergrowth_dagster.learning.store import DIGEST, client, versions

    digests = {}
    for ref in versions(project.settings, name):
        try:
            digests[ref.run_id] = model_digest(ref)
        except UserError:  # its files are gone, so it cannot score
            continue
        if not ref.digest:
            set_tags(client(project.settings), ref, {DIGEST: digests[ref.run_id]})
    begin(project.store, name, digests)


def vouch_for(project: Project, ref: "ModelRef") -> None:
    """Put the digest of an approved version's files on record, unless one is on record.

    Raises:
        UserError: its files are gone.
    """
    from usergrowth_dagster.learning.artifacts import model_digest
    from usergrowth_dagster.learning.reviewing import set_tags
    from usergrowth_dagster.learning.store import DIGEST, client

    if ref.status != "approved" or read_digest(project.store, ref.run_id):
        return
    digest = model_digest(ref)
    set_tags(client(project.settings), ref, {DIGEST: digest})
    keep_digest(project.store, ref.run_id, digest)


def record_change(store: "ControlStore", change: "Change", actor: str) -> None:
    """Write a change of a version's status into the audit log."""
    ref = change.ref
    detail = f"{change.was} → {ref.status}"
    if change.how != "command":
        detail += f", {change.how}"
    if ref.status == "approved" and ref.failed_gates:
        detail += f" against the failed gates {', '.join(ref.failed_gates)}"
    if ref.why:
        detail += f": {ref.why}"
    with store.write() as connection:
        audit.record(connection, actor, "model", f"{ref.name} version {ref.version}", detail)


def usable_model(project: Project, config: TrainingConfig, day: date) -> "ModelRef | None":
    """The version that scores a date for a training's question, if there is one.

    Its digest is the one on record in the control database, whatever MLflow says.
    """
    from usergrowth_dagster.learning.reviewing import newest_model

    settle_models(project, config.algorithm)
    ref = newest_model(
        project.settings,
        config.algorithm,
        config.config_hash(),
        day,
        reviewed=config.require_review,
    )
    return replace(ref, digest=read_digest(project.store, ref.run_id)) if ref else None


def waiting_version(project: Project, config: TrainingConfig, day: date) -> "ModelRef | None":
    """The newest version that a person's approval alone keeps from scoring a date.

    For a campaign that requires a review that may be one that the gates have approved, for another
    campaign of the same question.
    """
    from usergrowth_dagster.learning.reviewing import newest_model, waiting_model

    label = config.config_hash()
    waiting = waiting_model(project.settings, config.algorithm, label, day)
    if waiting is None and config.require_review:
        waiting = newest_model(project.settings, config.algorithm, label, day)
        waiting = waiting if waiting and not waiting.reviewed_by else None
    return waiting


def how_to_approve(ref: "ModelRef") -> str:
    """The sentence about a version that waits: which, and the commands to read and approve it."""
    held = f", since {ref.held}" if ref.held else ""
    return (
        f"{ref.name} version {ref.version} waits for review{held}; read it with usergrowth models "
        f"show {ref.name} {ref.version}, approve it with usergrowth models approve {ref.name} "
        f"{ref.version}"
    )


def no_model(project: Project, campaign: str, config: TrainingConfig, day: date) -> str:
    """Why no version may score a campaign's task of a date, and what to do."""
    waiting = waiting_version(project, config, day)
    if waiting is not None:
        return f"campaign {campaign!r}: {how_to_approve(waiting)}"
    failure = training_failure(project.store, campaign)
    return (
        f"campaign {campaign!r}: no approved {config.algorithm} model learned from days before "
        f"{day}; "
        + (
            f"its training failed: {failure}"
            if failure
            else _rejected(project, config, day)
            or f"materialize {config.algorithm}_model for that date (usergrowth train)"
        )
    )


def _rejected(project: Project, config: TrainingConfig, day: date) -> str:
    """What became of the newest version that could have scored a date."""
    from usergrowth_dagster.learning.store import versions

    label = {"config_hash": config.config_hash()}
    found = [
        ref
        for ref in versions(project.settings, config.algorithm, tags=label)
        if ref.last_label_day < day
    ]
    if not found:
        return ""
    ref = max(found, key=lambda r: (r.last_label_day, r.version))
    why = ref.why or ", ".join(f"gate {name} failed" for name in ref.failed_gates)
    return (
        f"version {ref.version} is {ref.status}"
        + (f" ({why})" if why else "")
        + "; see usergrowth "
        f"models show {ref.name} {ref.version}"
    )
