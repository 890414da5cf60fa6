"""Approving, rejecting and reopening the texts of campaigns by hand."""

from usergrowth_dagster.control import review as control_review
from usergrowth_dagster.control.codes import ReviewStatus
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.policy.checks import check_promise
from usergrowth_dagster.project import Project

REVIEWED = ("signature", "template")
"""Kinds of records that are reviewed."""


def review_text(
    project: Project, kind: str, name: str, *, approve: bool, reason: str | None, actor: str
) -> ReviewStatus:
    """Approve or reject a signature or a template.

    Args:
        project: the home.
        kind: one of :data:`REVIEWED`.
        name: its name.
        approve: whether it may be sent.
        reason: kept in its history.
        actor: who decides.

    Returns:
        Its status now.

    Raises:
        UserError: there is none of that name, or the reply by which a template lets people refuse
            would not be recognized.
    """
    _check_kind(kind)
    if kind == "template" and approve:
        check_promise(project.store, project.settings, name)
    return control_review.review(project.store, kind, name, approve, reason, actor)


def reopen_text(
    project: Project, kind: str, name: str, *, reason: str | None, actor: str
) -> ReviewStatus:
    """Put a rejected signature or template back into review.

    Returns:
        Its status now.

    Raises:
        UserError: there is none of that name, or it is in review already.
    """
    _check_kind(kind)
    return control_review.reopen(project.store, kind, name, reason, actor)


def _check_kind(kind: str) -> None:
    if kind not in REVIEWED:
        raise UserError(
            f"{kind!r}: only a signature or a template is reviewed", code="command.invalid"
        )
