"""A person's word on versions: by command, or in MLflow's own pages.

Which version scores an execution date D: of the versions with the status ``approved`` and the
label asked for, the one with the newest last label day before D. Nothing else decides, so every
word of a person is a change of the tag ``status``:

* ``approved``: may score. A version that waits is approved without more; one that the gates
  rejected, or that was retired, needs a reason.
* ``rejected``: never scores; from ``waiting_review`` or ``approved``.
* ``retired``: was approved and is taken back by a rollback with its reason, so that the approved
  version before it scores again. A date that the retired version could not have scored anyway
  keeps its model.

A rejection and a rollback hold for the versions to come as well: until a person approves a version
of the label, those that the gates would approve wait for a person (:func:`taken_back`). An approved
version that is older goes on scoring.

The same can be done by hand in MLflow's pages, and :func:`settle` makes it whole the next time
anything asks for a model:

* **Tag ``status``** set to one of these, or to ``waiting_review``, means just that. A tag ``why``
  beside it is the reason; MLflow does not record who did it.
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
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from usergrowth_dagster.errors import UserError
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
    _mend_alias(made, settings, name)
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
    return Change(_read_again(made, ref), was, f"{how} in MLflow")


def _mend_alias(made: "MlflowClient", settings: Settings, name: str) -> None:
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
        heir = _newest(label) or _newest(usable)
        if heir is None:
            made.delete_registered_model_alias(name, ALIAS)
        else:
            set_alias(made, heir)


def _newest(refs: Iterable[ModelRef]) -> ModelRef | None:
    """The version that learned the latest days; None of none."""
    return max(refs, key=order, default=None)


def set_tags(made: "MlflowClient", ref: ModelRef, values: dict[str, str]) -> None:
    """Set tags of a version, in their order."""
    for key, value in values.items():
        made.set_model_version_tag(ref.name, str(ref.version), key, value)


def _read_again(made: "MlflowClient", ref: ModelRef) -> ModelRef:
    """A version as it is now."""
    return as_ref(made, made.get_model_version(ref.name, str(ref.version)))


def newest_model(
    settings: Settings, name: str, config_hash: str, before: date, *, reviewed: bool = False
) -> ModelRef | None:
    """The newest approved version for a label whose last label day lies before a date.

    Args:
        settings: where MLflow is.
        name: registered model.
        config_hash: of the label.
        before: the execution date D scored at; a model never saw D or later.
        reviewed: only versions that a person approved, as a campaign that requires a review wants.
    """
    settle(settings, name)
    usable = [
        ref
        for ref in versions(settings, name, tags={"config_hash": config_hash})
        if ref.status == "approved"
        and ref.last_label_day < before
        and (ref.reviewed_by or not reviewed)
    ]
    return _newest(usable)


def waiting_model(settings: Settings, name: str, config_hash: str, before: date) -> ModelRef | None:
    """The newest version for a label that waits for a person's word and could score a date."""
    settle(settings, name)
    refs = versions(settings, name, tags={"config_hash": config_hash})
    return _newest([r for r in refs if r.status == "waiting_review" and r.last_label_day < before])


def taken_back(settings: Settings, name: str, config_hash: str) -> ModelRef | None:
    """The version of a label that a person rejected or retired, if no approval came later.

    While there is one, the gates alone approve no other version of the label: the person would find
    their word undone by the next training.
    """
    settle(settings, name)
    words = [
        ref
        for ref in versions(settings, name, tags={"config_hash": config_hash})
        if ref.reviewed_at and ref.status in ("approved", "rejected", "retired")
    ]
    last = max(
        words, key=lambda r: (datetime.fromisoformat(r.reviewed_at), r.version), default=None
    )
    return last if last is not None and last.status != "approved" else None


def get_version(settings: Settings, name: str, version: int) -> ModelRef:
    """One version, whatever its status.

    Raises:
        UserError: there is none of that number.
    """
    known = {ref.version: ref for ref in versions(settings, name)}
    if version not in known:
        raise UserError(
            f"model {name}: there is no version {version}; known are {sorted(known) or 'none'}",
            code="model.unknown",
        )
    return known[version]


def review(
    settings: Settings, name: str, version: int, *, approve: bool, actor: str, why: str = ""
) -> Change:
    """Approve or reject a version; repeating a verdict changes nothing.

    Only an approval that is repeated after another version of the label was taken back is a word of
    its own: it ends the waiting of the versions to come.

    Args:
        settings: where MLflow is.
        name: registered model.
        version: its number.
        approve: otherwise reject.
        actor: who says so.
        why: the reason; to approve a version that waits none is needed.

    Raises:
        UserError: there is no such version, or a reason is missing.
    """
    settle(settings, name)
    ref = get_version(settings, name, version)
    if approve:
        if ref.status in ("rejected", "retired") and not why.strip():
            reason = ref.why or ", ".join(f"gate {name} failed" for name in ref.failed_gates)
            failed = f" ({reason})" if reason else ""
            raise UserError(
                f"model {name}: version {version} is {ref.status}{failed}; to approve it all the "
                'same give the reason with --why "…"',
                code="command.needs_reason",
            )
        return _change(settings, ref, "approved", actor, why)
    if not why.strip():
        raise UserError(
            f'model {name}: rejecting version {version} needs a reason: --why "…"',
            code="command.needs_reason",
        )
    return _change(settings, ref, "rejected", actor, why)


def rollback(
    settings: Settings, name: str, version: int | None = None, *, actor: str, why: str
) -> tuple[Change, ModelRef]:
    """Retire an approved version, so that the approved one before it scores again.

    Args:
        settings: where MLflow is.
        name: registered model.
        version: the one to take back; None: the newest approved one, if there is one label only.
        actor: who says so.
        why: the reason.

    Returns:
        The change, and the version of its label that is newest now.

    Raises:
        UserError: no reason, no such approved version, or no other one to take over.
    """
    if not why.strip():
        raise UserError('a rollback needs a reason: --why "…"', code="command.needs_reason")
    settle(settings, name)
    ref = get_version(settings, name, version) if version is not None else _only(settings, name)
    if ref.status != "approved":
        raise UserError(
            f"model {name}: version {ref.version} is {ref.status}; only an approved version can "
            "be rolled back",
            code="record.forbidden_change",
        )
    label = versions(settings, name, tags={"config_hash": ref.config_hash})
    heir = _newest([r for r in label if r.status == "approved" and r.version != ref.version])
    if heir is None:
        raise UserError(
            f"model {name}: no other version of the label of version {ref.version} is approved, so "
            "nothing could take over; to let it score nobody all the same: usergrowth models "
            f'reject {name} {ref.version} --why "…"',
            code="record.forbidden_change",
        )
    return _change(settings, ref, "retired", actor, why), heir


def _change(settings: Settings, ref: ModelRef, status: Status, actor: str, why: str) -> Change:
    """Give a version a status in a person's name, and the alias to whom it belongs then."""
    repeated = ref.status == status and (ref.reviewed_by or status != "approved")
    if repeated and not (status == "approved" and taken_back(settings, ref.name, ref.config_hash)):
        return Change(ref, ref.status, "unchanged")
    made = client(settings)
    moment = datetime.now(UTC).isoformat(timespec="microseconds")
    values = {"reviewed_by": actor, "reviewed_at": moment, "why": why.strip()}
    # The status goes first and the note that it is known last: a process killed between the two has
    # decided, and the next to ask takes it for a word given in MLflow.
    with only_one(settings):
        set_tags(made, ref, {"status": status, **values, SETTLED: status})
    decided = _read_again(made, ref)
    if status == "approved":
        move_alias(made, settings, decided)
    else:
        _mend_alias(made, settings, ref.name)
    return Change(decided, ref.status, "command")


def _only(settings: Settings, name: str) -> ModelRef:
    """The newest approved version, of a registered model with one label."""
    approved = [ref for ref in versions(settings, name) if ref.status == "approved"]
    if not approved:
        raise UserError(
            f"model {name}: no version is approved, so there is none to roll back",
            code="record.forbidden_change",
        )
    labels = {ref.config_hash for ref in approved}
    if len(labels) > 1:
        heads = [_newest(r for r in approved if r.config_hash == label) for label in labels]
        named = ", ".join(sorted(str(head.version) for head in heads if head))
        raise UserError(
            f"model {name}: versions {named} score for different labels; name the one to roll back",
            code="command.invalid",
        )
    return max(approved, key=order)
