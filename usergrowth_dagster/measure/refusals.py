"""Who of an upload refused texts since the control group was drawn: only who is texted can.

They are known by the ledger and the suppression list together: a text since the draw was made, and
a refusal after it. Imported lists hold people of both arms, so they are no cause.
"""

from datetime import date, datetime, time
from typing import Any

from sqlalchemy import Select, select, union

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.wall_clock import moment_of
from usergrowth_dagster.effects.sample_ratio import Refused
from usergrowth_dagster.messaging.policy.contact import SENT_STATES
from usergrowth_dagster.messaging.policy.suppression import BY_HAND, PROVIDER, REPLY
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import Engine

_M, _S = schema.message, schema.suppression
_ROWS = 50_000


def refused_since(
    engine: Engine,
    project: Project,
    since: date | None,
    before: date,
    *,
    left_out: str,
    keys: str,
    share: float = 1.0,
) -> Refused:
    """Count the refusals among the people who could not be chosen.

    Args:
        engine: has what ``left_out`` reads.
        project: the home.
        since: first day of the draw; None: a draw that is kept.
        before: the execution date.
        left_out: SELECT of the user_id of the people who were left out before anyone was chosen.
        keys: the keys that say how long the draws last.
        share: how many of the people in ``left_out`` would have been chosen.
    """
    import pyarrow as pa

    zone = project.settings.zone
    went_out = [
        _M.c.state.in_(SENT_STATES),
        _M.c.sent_time < moment_of(datetime.combine(before, time()), zone),
    ]
    if since is not None:
        went_out.append(_M.c.sent_time >= moment_of(datetime.combine(since, time()), zone))

    def refused(name: str) -> Select[Any]:
        return (
            select(_M.c.user_id)
            .join(_S, _S.c[name] == _M.c[name])
            .where(
                *went_out,
                _S.c.reason.in_((REPLY, PROVIDER, BY_HAND)),
                _S.c.created_time >= _M.c.sent_time,
            )
        )

    engine.run("create or replace temp table _refused (user_id varchar)")
    with project.store.read() as connection:
        hashes = connection.execution_options(yield_per=_ROWS).execute(
            union(refused("phone_hash"), refused("user_hash"))
        )
        for part in hashes.scalars().partitions(_ROWS):
            engine.bind_arrow("_part", pa.table({"user_id": pa.array(part, pa.string())}))
            engine.run("insert into _refused select user_id from _part")
    users = engine.value(
        f"select count(distinct user_id) from _refused where user_id in ({left_out})"
    )
    return Refused(int(users), since, keys, share)
