"""A person's word on versions, given in MLflow's own pages.

What :mod:`reviewing` does by command is done there by hand, and :func:`settle` makes it whole the
next time anything asks for a model:

* **Tag ``status``** set to ``approved``, ``rejected``, ``retired`` or ``waiting_review`` means just
  that. A tag ``why`` beside it is the reason; MLflow does not tell who did it.
* **Alias ``champion``** moved to another version means "this one scores": the version is approved,
  and the approved ones of the same label that learned later days are retired, as by a rollback.
  Where there are none, a training that comes after is judged and takes over as always, unless the
  campaign requires a review.
* Removing the alias means nothing: it shows which version is newest, and the next one gets it.

Whoever may write in MLflow has the last word: the gates are not asked again there. The lists show
which gates such a version had failed, and that no reason was given.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
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
    set_alias,
    versions,
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
    from mlflow.exceptions import MlflowException

    made = client(settings)
    try:
        model = made.get_registered_model(name)
    except MlflowException:
        return []
    found = {ref.version: ref for ref in versions(settings, name)}
    by_tag = [r for r in found.values() if r.settled and r.status != r.settled]
    known = [r for r in by_tag if r.status in KNOWN]
    at, put = model.aliases.get(ALIAS), model.tags.get(SET_TO)
    moved = found.get(int(at)) if at and put and str(at) != str(put) else None
    if not known and moved is None:
        return []
    changes = []
    with only_one(settings):
        for ref in known:
            changes.append(_noticed(made, ref, ref.status, ref.settled, "tag status was set"))
        if moved is not None:
            changes += _follow_alias(made, found, moved, {r.version for r in known})
    mend_alias(made, settings, name)
    for change in changes:
        if change.ref.status == "approved" and moved is None:
            move_alias(made, settings, change.ref)
    return changes


def _follow_alias(
    made: "MlflowClient", found: dict[int, ModelRef], target: ModelRef, tagged: set[int]
) -> list[Change]:
    """The alias was moved to ``target``: it scores, and later ones of its label are retired."""
    how = f"alias {ALIAS} was moved to version {target.version}"
    changes = []
    if target.status != "approved":
        if target.version in tagged:  # taken back by its tag at the same time
            return []
        changes.append(_noticed(made, target, "approved", target.status, how))
    for ref in found.values():
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

    found = {ref.version: ref for ref in versions(settings, name)}
    with only_one(settings):
        try:
            held = found.get(int(made.get_model_version_by_alias(name, ALIAS).version))
        except MlflowException:
            return
        if held is None or held.status == "approved":
            return
        usable = [r for r in found.values() if r.status == "approved"]
        label = [r for r in usable if r.config_hash == held.config_hash]
        heir = newest(label) or newest(usable)
        if heir is None:
            made.delete_registered_model_alias(name, ALIAS)
        else:
            set_alias(made, heir)


def order(ref: ModelRef) -> tuple[date, int]:
    """Versions of a label by what they learned, then by number."""
    return ref.last_label_day, ref.version


def newest(found: Iterable[ModelRef]) -> ModelRef | None:
    """The version that learned the latest days; None of none."""
    return max(found, key=order, default=None)


def set_tags(made: "MlflowClient", ref: ModelRef, values: dict[str, str]) -> None:
    """Set tags of a version, in their order."""
    for key, value in values.items():
        made.set_model_version_tag(ref.name, str(ref.version), key, value)


def read_again(made: "MlflowClient", ref: ModelRef) -> ModelRef:
    """A version as it is now."""
    return as_ref(made, made.get_model_version(ref.name, str(ref.version)))
