"""Commands of registered models: models list, show, approve, reject, rollback."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usergrowth_dagster.cli.common import Home, Json, Page, say
from usergrowth_dagster.learning.problems import problems

if TYPE_CHECKING:
    from usergrowth_dagster.learning.store import ModelRef
    from usergrowth_dagster.views.models import ModelView

app = typer.Typer()
models = typer.Typer(no_args_is_help=True, help="Show and review registered model versions.")
app.add_typer(models, name="models")

Name = Annotated[str, typer.Argument(help=", ".join(problems()))]
Version = Annotated[int, typer.Argument(help="Its number.")]
Why = Annotated[str, typer.Option("--why", help="The reason, kept with the version.")]

_HEADER = (
    *("model", "version", "status", "scores today", "kind", "trained at", "last label day"),
    *("label", "reviewed by", "why"),
)
_NEXT_WAIT = "Its label's next versions wait until a person approves one."


@models.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(help="Only this model.")] = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """List every version: its status, who decided it, and whether it scores today."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.models import read_models

    views = read_models(Project(open_home(home)), [name] if name else None)
    page = Page(as_json)
    page.document([_record(view.ref) | {"scores_today": view.scores_today} for view in views])
    if views:
        page.table("Models", _HEADER, [_line(view) for view in views])
    else:
        page.say("no version is registered; usergrowth train makes one")
    page.finish()


@models.command()
def show(name: Name, version: Version, as_json: Json = False, home: Home = None) -> None:
    """Show the model card of a version: its question, quality, slices and limits."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.models import read_model_card, read_model_summary

    project = Project(open_home(home))
    page = Page(as_json)
    if as_json:
        measured = read_model_summary(project, name, version)
        page.document(_record(measured.ref) | {"summary": measured.summary})
    else:
        view = read_model_card(project, name, version)
        page.say(_standing(view.ref) + "\n")
        page.markdown(view.card or "It was registered without a model card.")
    page.finish()


@models.command()
def approve(name: Name, version: Version, why: Why = "", home: Home = None) -> None:
    """Let a version score; one that was rejected or retired needs --why."""
    _review(home, name, version, approve=True, why=why)


@models.command()
def reject(name: Name, version: Version, why: Why = "", home: Home = None) -> None:
    """Never let a version score; needs --why."""
    _review(home, name, version, approve=False, why=why)


def _review(home: Home, name: str, version: int, *, approve: bool, why: str) -> None:
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.training.reviews import review_version

    project = Project(open_home(home))
    done = review_version(project, name, version, approve=approve, actor=whoami(), why=why)
    say(f"{name} version {version} is {done.ref.status.replace('_', ' ')}.")
    now = done.scoring
    if now is None:
        say(f"No version scores its label on {done.day} now.")
    elif now.version != version:
        say(
            f"Version {now.version} scores its label on {done.day}"
            + (f"; to let version {version} score: {_take_back(now)}" if approve else "")
            + "."
        )
    if not approve:
        say(_NEXT_WAIT)


@models.command()
def rollback(
    name: Name,
    version: Annotated[
        int | None, typer.Argument(help="Its number; default: the version that scores.")
    ] = None,
    why: Why = "",
    home: Home = None,
) -> None:
    """Take an approved version back, so that the one before it scores again; needs --why."""
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.training.reviews import roll_back

    done = roll_back(Project(open_home(home)), name, version, actor=whoami(), why=why)
    say(
        f"{name} version {done.ref.version} is retired. Dates after {done.ref.last_label_day} are "
        f"scored by version {done.heir.version} now; earlier ones as before. {_NEXT_WAIT}"
    )


def _take_back(ref: "ModelRef") -> str:
    return f'usergrowth models rollback {ref.name} {ref.version} --why "…"'


def _line(view: "ModelView") -> tuple[Any, ...]:
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
