"""Campaign files and reviews."""

import getpass
from collections.abc import Iterator, Sequence
from pathlib import Path

from usergrowth_dagster.commands.home import open_home
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.tasks.project import Project
from usergrowth_dagster.tasks.train import training_config


def actor() -> str:
    """Who acts, for the records' history."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def apply_files(home: Path | None, files: Sequence[Path]) -> Iterator[str]:
    """Apply campaign files; every file is checked before the first is applied.

    Raises:
        UserError: names the file, key path and rule; nothing is changed then.
    """
    from usergrowth_dagster.control.apply import apply_campaign
    from usergrowth_dagster.control.campaign import load_campaign
    from usergrowth_dagster.messaging.content import check_content

    project = Project(open_home(home))
    specs = []
    for path in files:
        spec = load_campaign(path)
        check_content(spec, str(path), project.settings.opt_out_texts)
        training_config(project, spec)
        specs.append((path, spec))
    for path, spec in specs:
        applied = apply_campaign(project.store, spec, actor())
        told = [f"created {name}" for name in applied.created]
        told += [f"changed {change}" for change in applied.changed] + list(applied.notes)
        yield f"{path}: {'; '.join(told) or 'nothing to change'}"


def review_record(
    home: Path | None, kind: str, name: str, approve: bool, reason: str | None
) -> str:
    """Approve or reject a signature or template; says how it stands."""
    from usergrowth_dagster.control.review import review

    if kind not in ("signature", "template"):
        raise UserError(f"{kind!r}: only a signature or a template is reviewed")
    project = Project(open_home(home))
    status = review(project.store, kind, name, approve, reason, actor())
    return f"{kind} {name!r} is {status.name.lower()}"
