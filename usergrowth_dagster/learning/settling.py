"""A person's word on versions, given in MLflow's own pages.

What :mod:`reviewing` does by command is done there by hand, and :func:`settle` makes it whole the
next time anything asks for a model:

* **Tag ``status``** set to ``approved``, ``rejected``, ``retired`` or ``waiting_review`` means just
  that. A tag ``why`` beside it is the reason; MLflow does not tell who did it.
* **Alias ``champion``** moved to another version means "this one scores": a person approves it,
  though the gates may have done so before, and the approved ones of the same label that learned
  later days are retired, as by a rollback. Where there are none, a training that comes after is
  judged and takes over as always, unless the campaign requires a review.
* Removing the alias means nothing: it shows which version is newest, and the next one gets it.

Whoever may write in MLflow has the last word: the gates are not asked again there. The lists show
which gates such a version had failed, and that no reason was given.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from usergrowth_dagster.learning.store import (
    ALIAS,
    SET_TO,
    SETTLED,
    ModelRef,
    Status,
    as_ref,
    client,
    move_alias,
    only_one,
    order,
    read_versions,
    set_alias,
)
from usergrowth_dagster.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

IN_MLFLOW = "MLflow"
KNOWN: tuple[Status, ...] = ("approved", "waiting_review", "rejected", "retired")


@dataclass(frozen=True)
class Change:
    """A change of a version's status: what it is now, what it was, and how it came about."""

    ref: ModelRef
    was: str
    how: str


def settle(settings: Settings, name: str) -> list[Change]:
    """Make whole what a person did to tags and the alias in MLflow's pages; see the module.

    Returns:
        What has changed since the last time; usually nothing.
    """
    made = client(settings)
    if not any(_words(made, name)):
        return []
    changes = []
    with only_one(settings):
        # Read again: what was seen may have been a command at work.
        known, moved = _words(made, name)
        for ref in known:
            changes.append(_noticed(made, ref, ref.status, ref.settled, "tag status was set"))
        if moved is not None:
            refs = read_versions(made, name)
            changes += _follow_alias(made, refs, moved, {r.version for r in known})
    mend_alias(made, settings, name)
    for change in changes:
        if change.ref.status == "approved" and moved is None:
            move_alias(made, settings, change.ref)
    return changes


def _words(made: "MlflowClient", name: str) -> tuple[list[ModelRef], ModelRef | None]:
    """Versions whose tag ``status`` was set by hand, and the one that the alias was moved to."""
    from mlflow.exceptions import MlflowException

    try:
        model = made.get_registered_model(name)
    except MlflowException:
        return [], None
    by_version = {ref.version: ref for ref in read_versions(made, name)}
    by_tag = [
        ref
        for ref in by_version.values()
        if ref.settled and ref.status != ref.settled and ref.status in KNOWN
    ]
    at, put = model.aliases.get(ALIAS), model.tags.get(SET_TO)
    moved = by_version.get(int(at)) if at and put and str(at) not in put.split(",") else None
    return by_tag, moved


def _follow_alias(
    made: "MlflowClient", refs: list[ModelRef], target: ModelRef, tagged: set[int]
) -> list[Change]:
    """The alias was moved to ``target``: it scores, and later ones of its label are retired.

    Of a version that the gates had approved already this is a person's approval.
    """
    how = f"alias {ALIAS} was moved to version {target.version}"
    changes = []
    if target.version not in tagged:
        changes.append(_noticed(made, target, "approved", target.status, how))
    elif target.status != "approved":  # taken back by its tag at the same time
        return []
    for ref in refs:
        later = ref.config_hash == target.config_hash and order(ref) > order(target)
        if later and ref.status == "approved" and ref.version not in tagged:
            changes.append(_noticed(made, ref, "retired", "approved", how))
    made.set_registered_model_tag(target.name, SET_TO, str(target.version))
    return changes


def _noticed(made: "MlflowClient", ref: ModelRef, status: str, was: str, how: str) -> Change:
    """Write down a change that was made in MLflow's pages."""
    why = ref.why if how.startswith("tag") else how
    moment = datetime.now(UTC).isoformat(timespec="microseconds")
    set_tags(
        made,
        ref,
        {
            "status": status,
            SETTLED: status,
            "reviewed_by": IN_MLFLOW,
            "reviewed_at": moment,
            "why": why,
        },
    )
    return Change(read_again(made, ref), was, f"{how} in MLflow")


def mend_alias(made: "MlflowClient", settings: Settings, name: str) -> None:
    """Take the alias from a version that may not score, for the approved one before it."""
    from mlflow.exceptions import MlflowException

    with only_one(settings):
        by_version = {ref.version: ref for ref in read_versions(made, name)}
        try:
            held = by_version.get(int(made.get_model_version_by_alias(name, ALIAS).version))
        except MlflowException:
            return
        if held is None or held.status == "approved":
            return
        usable = [r for r in by_version.values() if r.status == "approved"]
        label = [r for r in usable if r.config_hash == held.config_hash]
        heir = newest(label) or newest(usable)
        if heir is None:
            made.delete_registered_model_alias(name, ALIAS)
        else:
            set_alias(made, heir)


def newest(refs: Iterable[ModelRef]) -> ModelRef | None:
    """The version that learned the latest days; None of none."""
    return max(refs, key=order, default=None)


def set_tags(made: "MlflowClient", ref: ModelRef, values: dict[str, str]) -> None:
    """Set tags of a version, in their order."""
    for key, value in values.items():
        made.set_model_version_tag(ref.name, str(ref.version), key, value)


def read_again(made: "MlflowClient", ref: ModelRef) -> ModelRef:
    """A version as it is now."""
    return as_ref(made, made.get_model_version(ref.name, str(ref.version)))
