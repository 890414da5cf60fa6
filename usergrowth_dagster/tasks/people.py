"""What a task knows of its people beyond their features: attributes, addresses, and who is barred.

Barred are those whom the contact policy would keep from getting anything: active suppressions and
caps. They are left out before anyone is chosen, so that the control group is as large a part of
those who could be texted as was drawn. The policy is asked again at planning and at sending.

For the same reason a cap counts what the control groups of an earlier campaign, its own and the
global one, would have got: else whoever is always held out would never be capped, and those left to
choose from would be mostly people of the control groups.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Select, func, select

from usergrowth_dagster.addresses.sql import number_sql
from usergrowth_dagster.audience.eligibility import Channel, address_sql
from usergrowth_dagster.audience.records import bind_decisions
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.control.wall_clock import moment_of
from usergrowth_dagster.messaging.people.old_hashes import (
    carry_over,
    has_old_refusals,
    renew,
)
from usergrowth_dagster.messaging.people.phones import PhoneVault, open_vault
from usergrowth_dagster.messaging.policy.contact import SENT_STATES, ContactRules, contact_rules
from usergrowth_dagster.messaging.policy.suppression import suppressed
from usergrowth_dagster.messaging.schedules.occurrences import business_now
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.tasks.features import bind_table
from usergrowth_dagster.tasks.project import Project
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import pyarrow as pa

_M = schema.message
_KEYS = 50_000
_HASHES = ("phone_hash", "user_hash")


def bind_attributes(engine: Engine, project: Project, task: Task) -> list[str]:
    """Make the view ``user_attributes``: users' attributes as of the date; returns its files.

    They are those of the newest landed day before the execution date, each of which is whole.
    """
    landed = [day for day in project.warehouse.days("stg_user") if day < task.execution_date]
    files = bind_table(engine, project, "stg_user", [max(landed)] if landed else [])
    engine.run(
        "create or replace view user_attributes as select user_id, any_value(kvs_str) as kvs_str, "
        "any_value(kvs_num) as kvs_num from stg_user group by user_id"
    )
    return files


def attribute_sql(name: str, people: str = "p", attributes: str = "a") -> str:
    """DuckDB expression: a population column, else the user's attribute of that name; or NULL.

    Args:
        name: the column's or attribute's name.
        people: alias of ``task_population``.
        attributes: alias of ``user_attributes``.
    """
    key = literal(name)
    return (
        f"coalesce(nullif(trim({people}.variables[{key}]), ''), "
        f"nullif(trim({attributes}.kvs_str[{key}]), ''), "
        f"cast({attributes}.kvs_num[{key}] as varchar))"
    )


def consent_sql(name: str | None) -> str:
    """DuckDB BOOLEAN expression: whether the attribute says true, yes or 1; true without a name."""
    if name is None:
        return "true"
    return f"coalesce(lower({attribute_sql(name)}) in ('true', 'yes', '1', '1.0'), false)"


def address_column_sql(channel: Channel) -> str:
    """DuckDB expression of the channel's address, as uploaded."""
    return "p.phone" if channel == "sms" else "p.variables['email']"


def rules_of(settings: Settings, task: Task) -> ContactRules:
    """The contact rules of a task's campaign."""
    return contact_rules(settings, task.spec.contact.model_dump())


def contact_moment(settings: Settings, task: Task) -> datetime:
    """As of when a decision asks the contact policy (UTC): when its texts begin to go out.

    That is the execution date at ``send_from``, or a later ``execute_time`` or first day of a smart
    send, or now when the day has begun. A date that has passed is asked as of its own morning, so
    it is decided alike whenever it is decided.
    """
    opens = datetime.combine(task.execution_date, rules_of(settings, task).send_from)
    moment = moment_of(opens, settings.zone)
    if task.execution_date < settings.current_date():
        return moment
    plan, times = task.spec.schedule, [moment, business_now(settings)]
    if isinstance(plan.execute_time, datetime):
        start = plan.execute_time
        times.append(start.astimezone(UTC) if start.tzinfo else moment_of(start, settings.zone))
    if plan.smart_send:
        first = datetime.combine(plan.smart_send.start_date, opens.time())
        times.append(moment_of(first, settings.zone))
    return max(times)


def bind_barred(engine: Engine, project: Project, task: Task) -> str:
    """Make the table ``barred``: rows of ``task_population`` with suppressed or capped as reason.

    Returns:
        A hash of its content, "" when it is empty.
    """
    engine.run(
        "create or replace temp table _barred_keys "
        "(phone_hash blob, user_hash blob, user_id varchar, reason varchar)"
    )
    vault = open_vault(project.settings.home, project.settings.default_country)
    _find_old(engine, project, vault, task)
    with project.store.read() as connection:
        held = suppressed(task.spec.channel, task.spec.signature.name)
        _load(engine, connection, held, "_barred_keys select *, null, 'suppressed'")
        for since, most in _limits(project.settings, task):
            _load_capped(engine, connection, project, task, since, most)
    hashes = engine.rows("select count(phone_hash), count(user_hash) from _barred_keys")[0]
    parts = [_matches("task_population", "user_id")]
    if any(hashes):
        wanted = [name for name, rows in zip(_HASHES, hashes, strict=True) if rows]
        engine.bind_arrow("_people_hashes", _people_hashes(engine, vault, task, wanted))
        parts += [_matches("_people_hashes", name) for name in wanted]
    engine.run(
        # of two reasons the greater word: suppressed
        'create or replace temp table barred as select "row", max(reason) as reason '
        f'from ({" union all ".join(parts)}) group by "row"'
    )
    rows, mark = engine.rows(
        """select count(*), bit_xor(md5_number_lower(concat("row", reason))) from barred"""
    )[0]
    return f"{rows}:{mark}" if rows else ""


def _find_old(engine: Engine, project: Project, vault: PhoneVault, task: Task) -> None:
    """Let refusals that an earlier version recorded hold for the numbers of the population."""
    renew(project.store, vault)
    with project.store.read() as connection:
        if task.spec.channel != "sms" or not has_old_refusals(connection):
            return
    for batch in engine.stream(f"select {number_sql('phone')} as number from task_population"):
        numbers = [number for number in batch.column("number").to_pylist() if number]
        with project.store.write() as connection:
            carry_over(connection, vault, numbers)


def _matches(people: str, key: str) -> str:
    return f'select p."row", b.reason from {people} as p join _barred_keys as b using ({key})'


def _load(engine: Engine, connection: Connection, query: Select[Any], into: str) -> None:
    """Add a query's rows to a table, in parts; ``into`` is the table and what it takes of each."""
    import pyarrow as pa

    found = connection.execution_options(yield_per=_KEYS).execute(query)
    for part in found.mappings().partitions(_KEYS):
        columns = {name: _array([row[name] for row in part]) for name in part[0]}
        engine.bind_arrow("_part", pa.table(columns))
        engine.run(f"insert into {into} from _part")


def _array(values: list[Any]) -> "pa.Array":
    """An Arrow array; one without any value is of hashes."""
    import pyarrow as pa

    return pa.array(values, None if any(v is not None for v in values) else pa.binary())


def _limits(settings: Settings, task: Task) -> list[tuple[datetime, int]]:
    """So many messages after a time (UTC) bar a person."""
    rules, moment = rules_of(settings, task), contact_moment(settings, task)
    limits = []
    if rules.cap_messages is not None:
        limits.append((moment - rules.cap_window, rules.cap_messages))
    if rules.min_gap:  # it must end while the texts may still go out
        within = timedelta(hours=settings.send_within_hours)
        limits.append((moment + within - rules.min_gap, 1))
    return limits


def _load_capped(
    engine: Engine,
    connection: Connection,
    project: Project,
    task: Task,
    since: datetime,
    most: int,
) -> None:
    """Add the users and the addresses that have had ``most`` messages, or would have."""
    went_out = [_M.c.state.in_(SENT_STATES), _M.c.sent_time > since]
    if task.execution_date < project.settings.current_date():  # nothing from its future
        went_out.append(_M.c.sent_time <= contact_moment(project.settings, task))
    number = func.count().label("number")
    addresses = select(_M.c.phone_hash).where(*went_out, _M.c.phone_hash.is_not(None))
    addresses = addresses.group_by(_M.c.phone_hash).having(number >= most)
    _load(engine, connection, addresses, "_barred_keys select phone_hash, null, null, 'capped'")
    users = select(_M.c.user_id, number).where(*went_out).group_by(_M.c.user_id)
    if not _bind_held_out(engine, connection, project, went_out):
        users = users.having(number >= most)  # those with fewer need not be known
    _load(engine, connection, users, "_had select user_id, number")
    engine.run(
        "insert into _barred_keys select null, null, user_id, 'capped' from _had "
        f"group by user_id having sum(number) >= {most}"
    )


def _bind_held_out(
    engine: Engine,
    connection: Connection,
    project: Project,
    went_out: Sequence[ColumnElement[bool]],
) -> int:
    """Make the table ``_had``: held-out users, and how many messages they would have had."""
    made = schema.occurrence
    sent = select(_M.c.id).where(_M.c.occurrence_id == made.c.id, *went_out).exists()
    found = connection.execute(
        select(made.c.task_id, made.c.audience_date, func.count())
        .where(sent, made.c.audience_date.is_not(None))
        .group_by(made.c.task_id, made.c.audience_date)
    ).tuples()
    engine.run("create or replace temp table _had (user_id varchar, number bigint)")
    for task_id, day, occurrences in found.all():
        decisions = bind_decisions(engine, project.warehouse, day, task_id, "_earlier")
        engine.run(
            f"insert into _had select user_id, {occurrences} from {decisions} where arm = 'control'"
        )
    return int(engine.value("select count(*) from _had"))


def _people_hashes(
    engine: Engine, vault: PhoneVault, task: Task, hashes: Sequence[str]
) -> "pa.Table":
    """The keyed hashes of a population's addresses and users, as far as they are asked for."""
    import pyarrow as pa

    channel: Channel = task.spec.channel
    address = address_sql(address_column_sql(channel), channel)
    layout = pa.schema(
        [("row", pa.int64()), ("phone_hash", pa.binary()), ("user_hash", pa.binary())]
    )
    chunks = []
    for batch in engine.stream(
        f'select "row", user_id, {address} as address from task_population p'
    ):
        nothing = pa.nulls(batch.num_rows, pa.binary())
        phones = users = nothing
        if "phone_hash" in hashes:
            found = batch.column("address").to_pylist()
            phones = pa.array([vault.digest(one) if one else None for one in found], pa.binary())
        if "user_hash" in hashes:
            found = batch.column("user_id").to_pylist()
            users = pa.array([vault.user_digest(one) for one in found], pa.binary())
        chunks.append(pa.table([batch.column("row"), phones, users], schema=layout))
    return pa.concat_tables([layout.empty_table(), *chunks])
