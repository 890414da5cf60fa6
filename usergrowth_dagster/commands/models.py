"""Registered model versions: list, show, approve, reject, rollback."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.control.audit import whoami
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.home import open_home
from usergrowth_dagster.project import Project
from usergrowth_dagster.training.models import record_change, settle_models, vouch_for
from usergrowth_dagster.views.models import ModelView, read_models

if TYPE_CHECKING:
    from usergrowth_dagster.commands.show import Say, Shows
    from usergrowth_dagster.learning.settling import Change
    from usergrowth_dagster.learning.store import ModelRef

HEADER = (
    *("model", "version", "status", "scores today", "kind", "trained at", "last label day"),
    *("label", "reviewed by", "why"),
)
_NEXT_WAIT = "Its label's next versions wait until a person approves one."


def list_models(home: Path | None, name: str | None, page: "Shows") -> None:
    """Show every version of the registered models, and which of them score today.

    Raises:
        UserError: no model of that name.
    """
    if name is not None:
        _require_known(name)
    views = read_models(Project(open_home(home)), [name] if name else None)
    page.document([_record(view.ref) | {"scores_today": view.scores_today} for view in views])
    if views:
        page.table("Models", HEADER, [_line(view) for view in views])
    else:
        page.say("no version is registered; usergrowth train makes one")


def show_model(home: Path | None, name: str, version: int, page: "Shows") -> None:
    """Show where a version stands, and its model card.

    Raises:
        UserError: no such model or version.
    """
    from usergrowth_dagster.learning.artifacts import read_artifacts, read_card
    from usergrowth_dagster.learning.reviewing import get_version

    project = Project(open_home(home))
    _require_known(name)
    settle_models(project, name)
    ref = get_version(project.settings, name, version)
    if page.as_json:
        page.document(_record(ref) | {"summary": read_artifacts(ref)[0]})
        return
    page.say(_standing(ref) + "\n")
    page.markdown(read_card(ref) or "It was registered without a model card.")


def review_model(
    home: Path | None, name: str, version: int, *, approve: bool, why: str, say: "Say"
) -> None:
    """Approve or reject a version, and say what scores now.

    Raises:
        UserError: no such model or version, or a reason is needed.
    """
    from usergrowth_dagster.learning.reviewing import newest_model, review

    project = Project(open_home(home))
    _require_known(name)
    settle_models(project, name)
    change = review(project.settings, name, version, approve=approve, actor=whoami(), why=why)
    _recorded(project, change)
    if approve:
        vouch_for(project, change.ref)
    ref, today = change.ref, project.settings.current_date()
    say(f"{name} version {version} is {ref.status.replace('_', ' ')}.")
    now = newest_model(project.settings, name, ref.config_hash, today)
    if now is None:
        say(f"No version scores its label on {today} now.")
    elif now.version != version:
        say(
            f"Version {now.version} scores its label on {today}"
            + (f"; to let version {version} score: {_take_back(now)}" if approve else "")
            + "."
        )
    if not approve:
        say(_NEXT_WAIT)


def rollback_model(
    home: Path | None, name: str, version: int | None, *, why: str, say: "Say"
) -> None:
    """Retire a version, so that the approved one before it scores again.

    Raises:
        UserError: no such model, no reason, or nothing that could be rolled back.
    """
    from usergrowth_dagster.learning.reviewing import rollback

    project = Project(open_home(home))
    _require_known(name)
    settle_models(project, name)
    change, heir = rollback(project.settings, name, version, actor=whoami(), why=why)
    _recorded(project, change)
    ref = change.ref
    say(
        f"{name} version {ref.version} is retired. Dates after {ref.last_label_day} are scored by "
        f"version {heir.version} now; earlier ones as before. {_NEXT_WAIT}"
    )


def _require_known(name: str) -> None:
    from usergrowth_dagster.learning.problems import problems

    if name not in problems():
        raise UserError(
            f"no model is called {name!r}; there are {', '.join(problems())}", code="model.unknown"
        )


def _recorded(project: Project, change: "Change") -> None:
    if change.how != "unchanged":
        record_change(project.store, change, whoami())


def _take_back(ref: "ModelRef") -> str:
    return f'usergrowth models rollback {ref.name} {ref.version} --why "…"'


def _line(view: ModelView) -> tuple[Any, ...]:
    ref = view.ref
    return (
        ref.name,
        ref.version,
        ref.status.replace("_", " "),
        "yes" if view.scores_today else "",
        ref.champion,
        ref.execution_date,
        ref.last_label_day,
        ref.config_hash,
        ref.reviewed_by,
        view.reason,
    )


def _record(ref: "ModelRef") -> dict[str, Any]:
    values = asdict(ref)
    for hidden in ("tracking_uri", "settled"):
        del values[hidden]
    return values


def _standing(ref: "ModelRef") -> str:
    who = f", by the word of {ref.reviewed_by}" if ref.reviewed_by else ", by its gates"
    why = f": {ref.why}" if ref.why else ""
    sentence = f"{ref.name} version {ref.version} is {ref.status.replace('_', ' ')}{who}{why}."
    if ref.failed_gates:
        sentence += f" It failed the gates {', '.join(ref.failed_gates)}."
    if ref.status == "waiting_review":
        sentence += f" It waits since {ref.held}." if ref.held else ""
        sentence += f" To approve it: usergrowth models approve {ref.name} {ref.version}"
    return sentence
