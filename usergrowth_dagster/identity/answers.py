"""The answer to a suggested pair: approved, it lands as a link; rejected, it is kept as that."""

import csv
import io
from typing import Literal

from usergrowth_dagster.control.audit import record
from usergrowth_dagster.data.contracts import CONTRACTS, IDENTITY
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.identity.definition import APPROVED
from usergrowth_dagster.identity.suggest import bind_suggestions, pair_key
from usergrowth_dagster.identity.tables import SUGGESTION_COLUMNS, SUGGESTIONS
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.warehouse.engine import open_engine

Answer = Literal["approved", "rejected"]


def answer(project: Project, user: str, other: str, said: Answer, actor: str) -> str:
    """Answer a suggested pair, and land an approved one as a link of both users.

    Args:
        project: the home.
        user: one user.
        other: the other, in either order.
        said: the answer.
        actor: who answers, for the audit log.

    Returns:
        What it means, in a sentence.

    Raises:
        UserError: the pair is not suggested, or is answered otherwise already.
    """
    one, two = sorted((user, other))
    with project.alone("identity"), open_engine(project.settings) as engine:
        rows = bind_suggestions(engine, project)
        pair = f"user_id = {literal(one)} and other_user_id = {literal(two)}"
        known = engine.rows(f"select ds, answer from {rows} where {pair}")
        if not known:
            raise UserError(
                f"{one} and {two} are not suggested as one person; usergrowth identity suggestions "
                "lists the pairs",
                code="person.unknown",
            )
        day, before = known[0]
        if before is not None and before != said:
            raise UserError(
                f"{one} and {two} were {before} already; a link that is wrong is taken out of the "
                f"file of identity/ that holds it",
                code="identity.answered",
            )
        if said == "approved":
            _land_link(project, one, two, actor)
        if before is None:
            columns = ", ".join(SUGGESTION_COLUMNS)
            set_ = f"case when {pair} then {literal(said)} else answer end as answer"
            by = f"case when {pair} then {literal(actor)} else answered_by end as answered_by"
            sql = f"select {columns} from (select * replace ({set_}, {by}) from {rows})"
            project.warehouse.replace(SUGGESTIONS, engine.arrow(sql), days=[day])
            with project.store.write() as connection:
                for name in (one, two):
                    record(connection, actor, "identity", f"user {name}", f"a pair was {said}")
    if said == "rejected":
        return f"{one} and {two} are not suggested again"
    return (
        f"{one} and {two} are linked: the next date that usergrowth identity run makes has them as "
        "one person"
    )


def _land_link(project: Project, one: str, two: str, actor: str) -> None:
    """Write both links as a landing file of today; the same file again for the same pair."""
    today = project.settings.current_date()
    key = pair_key(one, two)
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([column.name for column in CONTRACTS[IDENTITY].columns])
    for user in (one, two):
        lines.writerow([user, APPROVED.name, key, f"approved by {actor}", f"{today:%Y%m%d}"])
    path = f"{IDENTITY}/ds={today:%Y%m%d}/approved-{key[:12]}.csv"
    project.landing.write_bytes(path, text.getvalue().encode())
