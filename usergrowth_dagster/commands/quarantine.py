"""Rejected rows of landing files, for a person who mends them."""

from datetime import date
from pathlib import Path

from usergrowth_dagster.cli.cells import Count
from usergrowth_dagster.commands.show import Say, Shows, ShowTable
from usergrowth_dagster.data.contracts import CONTRACTS
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.home import open_home
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.quarantine import Rejects, read_rejects

_RULES = sorted({rule.code for one in CONTRACTS.values() for _, rule in one.rejections})


def show_quarantine(
    home: Path | None,
    page: Shows,
    *,
    table: str | None,
    day: date | None,
    rule: str | None,
    limit: int,
) -> None:
    """Print how many rows were rejected by what, and the first of them.

    Raises:
        UserError: there is no such table or rule.
    """
    _check(table, rule)
    project = Project(open_home(home))
    with open_engine(project.settings) as engine:
        rejects = read_rejects(
            engine, project.warehouse, table=table, day=day, rule=rule, limit=limit
        )
    page.document(rejects)
    if rejects.total:
        _show(rejects, page.say, page.table)
    else:
        page.say("no rejected rows" + (" match" if table or day or rule else ""))


def _check(table: str | None, rule: str | None) -> None:
    if table is not None and table.partition(".")[0] not in CONTRACTS:
        raise UserError(
            f"--table {table!r}: choose from {', '.join(CONTRACTS)}, population.<task>",
            code="command.invalid",
        )
    if rule is not None and rule not in _RULES:
        raise UserError(f"--rule {rule!r}: choose from {', '.join(_RULES)}", code="command.invalid")


def _show(rejects: Rejects, say: Say, show_table: ShowTable) -> None:
    show_table(
        "Rejected rows",
        ("date", "table", "column", "rule", "rows"),
        [(one.day, one.table, one.column, one.rule, Count(one.rows)) for one in rejects.counts],
    )
    say("")
    for one in rejects.rows:
        say(f"{one.file}:{one.line}  {one.broken}")
        if one.row is not None:
            say(f"    {one.row}")
    if rejects.total > len(rejects.rows):
        say(
            f"and {rejects.total - len(rejects.rows):,} more; give --limit, or choose by --table, "
            "--date and --rule"
        )
