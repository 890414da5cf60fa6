"""Who is excluded from a decision: those whom the contact policy would keep from getting anything.

They have an active suppression, or have had as many messages as one may get. They are left out
before anyone is chosen, so that the control group is as large a part of those who could be texted
as was drawn. The policy is asked again at planning and at sending. Where texts go by several
channels, a suppression on any of them excludes: else the arms would differ by who has refused.

In a home that knows persons (``identity.yml``) a refusal of one user holds for all users of the
person.

For the same reason a cap counts what the control groups of an earlier campaign, its own and the
global one, would have got: else whoever is always held out would never be capped, and those left to
choose from would be mostly people of the control groups.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Select, func, select

from usergrowth_dagster.addresses.sql import number_sql
from usergrowth_dagster.audience.eligibility import address_sql
from usergrowth_dagster.audience.records import decided_rows
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.control.wall_clock import moment_of
from usergrowth_dagster.identity.persons import bind_persons
from usergrowth_dagster.identity.refusals import excluded_with_person
from usergrowth_dagster.messaging.people.old_hashes import (
    carry_over,
    has_old_refusals,
    renew,
)
from usergrowth_dagster.messaging.people.phones import PhoneVault, open_vault
from usergrowth_dagster.messaging.policy.contact import SENT_STATES, ContactRules, contact_rules
from usergrowth_dagster.messaging.policy.suppression import suppressed
from usergrowth_dagster.messaging.schedules.occurrences import business_now
from usergrowth_dagster.pipeline.attributes import address_column_sql
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_batches, bind_query

if TYPE_CHECKING:
    import pyarrow as pa

message = schema.message
_KEYS = 50_000
_HASHES = ("phone_hash", "user_hash")


def rules_of(settings: Settings, task: Task) -> ContactRules:
    """The contact rules of a task's campaign."""
    return contact_rules(settings, task.spec.contact.model_dump())


def contact_moment(settings: Settings, task: Task) -> datetime:
    """As of when a decision asks the contact policy (UTC): when its texts begin to go out.

    That is the execution date at ``send_from``, or a later ``execute_time`` or first day of
    send-time optimization, or now when the day has begun. A date that has passed is asked as of its
    own morning, so it is decided alike whenever it is decided.
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


def exclusions(
    engine: Engine, project: Project, task: Task, population: Relation, moment: datetime
) -> Relation:
    """The excluded rows of a population.

    Args:
        engine: holds the population.
        project: the home, whose suppressions and messages are asked.
        task: the task.
        population: of the task.
        moment: as of when the contact policy is asked (UTC), by :func:`contact_moment`.

    Returns:
        ``row`` and ``reason``, which is suppressed or capped. The fingerprint is one of the
        content, "" when nobody is excluded.
    """
    keys = engine.unique_name("excluded_keys")
    engine.run(
        f"create temp table {keys} "
        "(phone_hash blob, user_hash blob, user_id varchar, reason varchar)"
    )
    vault = open_vault(project.settings.home, project.settings.default_country)
    _renew_old_refusals(engine, project, vault, task, population)
    with project.store.read() as connection:
        for channel in task.spec.channels:
            refused = suppressed(channel, task.spec.signature.name)
            _load(engine, connection, refused, f"{keys} select *, null, 'suppressed'")
        for since, most in _limits(project.settings, task, moment):
            _load_capped(engine, connection, project, task, (since, moment, most), keys)
    rows = _rows_of_keys(engine, vault, task, population, keys)
    persons = bind_persons(engine, project, task.execution_date)
    if persons is not None:
        rows = _both(
            engine, rows, excluded_with_person(engine, vault, persons, population, keys, rows)
        )
    count, content = engine.rows(
        f"""select count(*), bit_xor(md5_number_lower(concat("row", reason))) from {rows}"""
    )[0]
    mark = hashlib.sha256(f"{count}:{content}".encode()).hexdigest()[:16] if count else ""
    return Relation(rows.name, rows.columns, fingerprint=mark)


def _both(engine: Engine, rows: Relation, more: Relation) -> Relation:
    """The excluded rows of two relations, each once; of two reasons the greater word."""
    both = f'select "row", reason from {rows} union all select "row", reason from {more}'
    sql = f'select "row", max(reason) as reason from ({both}) group by "row"'
    return bind_query(engine, "exclusions", sql, keep=True)


def _rows_of_keys(
    engine: Engine, vault: PhoneVault, task: Task, population: Relation, keys: str
) -> Relation:
    """The rows of a population that a key of the excluded belongs to, with the reason."""

    def matches(people: Relation, key: str) -> str:
        return f'select p."row", k.reason from {people} as p join {keys} as k using ({key})'

    hashes = engine.rows(f"select count(phone_hash), count(user_hash) from {keys}")[0]
    parts = [matches(population, "user_id")]
    if any(hashes):
        wanted = [name for name, rows in zip(_HASHES, hashes, strict=True) if rows]
        people = _people_hashes(engine, vault, task, population, wanted)
        parts += [matches(people, name) for name in wanted]
    return bind_query(
        engine,
        "exclusions",
        # of two reasons the greater word: suppressed
        f'select "row", max(reason) as reason from ({" union all ".join(parts)}) group by "row"',
        keep=True,
    )


def _renew_old_refusals(
    engine: Engine, project: Project, vault: PhoneVault, task: Task, population: Relation
) -> None:
    """Let refusals that an earlier version recorded hold for the numbers of the population."""
    renew(project.store, vault)
    with project.store.read() as connection:
        if "sms" not in task.spec.channels or not has_old_refusals(connection):
            return
    for batch in engine.stream(f"select {number_sql('phone')} as number from {population}"):
        numbers = [number for number in batch.column("number").to_pylist() if number]
        with project.store.write() as connection:
            carry_over(connection, vault, numbers)


def _load(engine: Engine, connection: Connection, query: Select[Any], into: str) -> None:
    """Add a query's rows to a table, in parts; ``into`` is the table and what it takes of each."""
    import pyarrow as pa

    result = connection.execution_options(yield_per=_KEYS).execute(query)
    for part in result.mappings().partitions(_KEYS):
        columns = {name: _array([row[name] for row in part]) for name in part[0]}
        engine.bind_arrow("_part", pa.table(columns))
        engine.run(f"insert into {into} from _part")


def _array(values: list[Any]) -> "pa.Array":
    """An Arrow array; one without any value is of hashes."""
    import pyarrow as pa

    return pa.array(values, None if any(v is not None for v in values) else pa.binary())


def _limits(settings: Settings, task: Task, moment: datetime) -> list[tuple[datetime, int]]:
    """So many messages after a time (UTC) exclude a person."""
    rules = rules_of(settings, task)
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
    limit: tuple[datetime, datetime, int],
    keys: str,
) -> None:
    """Add the users and the addresses that have reached a limit, or would have.

    ``limit`` is since when messages count, the moment of the decision, and how many are too many.
    """
    since, moment, most = limit
    went_out = [message.c.state.in_(SENT_STATES), message.c.sent_time > since]
    if task.execution_date < project.settings.current_date():  # nothing from its future
        went_out.append(message.c.sent_time <= moment)
    number = func.count().label("number")
    addresses = select(message.c.phone_hash).where(*went_out, message.c.phone_hash.is_not(None))
    addresses = addresses.group_by(message.c.phone_hash).having(number >= most)
    _load(engine, connection, addresses, f"{keys} select phone_hash, null, null, 'capped'")
    users = select(message.c.user_id, number).where(*went_out).group_by(message.c.user_id)
    had = _held_out(engine, connection, project, went_out)
    if not engine.value(f"select count(*) from {had}"):
        users = users.having(number >= most)  # those with fewer need not be known
    _load(engine, connection, users, f"{had} select user_id, number")
    engine.run(
        f"insert into {keys} select null, null, user_id, 'capped' from {had} "
        f"group by user_id having sum(number) >= {most}"
    )


def _held_out(
    engine: Engine,
    connection: Connection,
    project: Project,
    went_out: Sequence[ColumnElement[bool]],
) -> str:
    """A table of held-out users and how many messages they would have had; its name."""
    made = schema.occurrence
    sent = select(message.c.id).where(message.c.occurrence_id == made.c.id, *went_out).exists()
    occurrences_of = connection.execute(
        select(made.c.task_id, made.c.audience_date, func.count())
        .where(sent, made.c.audience_date.is_not(None))
        .group_by(made.c.task_id, made.c.audience_date)
    ).tuples()
    had = engine.unique_name("had")
    engine.run(f"create temp table {had} (user_id varchar, number bigint)")
    for task_id, day, occurrences in occurrences_of.all():
        earlier = decided_rows(engine, project.warehouse, day, task_id)
        engine.run(
            f"insert into {had} select user_id, {occurrences} from {earlier} where arm = 'control'"
        )
    return had


def _people_hashes(
    engine: Engine, vault: PhoneVault, task: Task, population: Relation, hashes: Sequence[str]
) -> Relation:
    """The keyed hashes of a population's addresses and users, as far as they are asked for."""
    import pyarrow as pa

    addresses = [address_sql(address_column_sql(one), one) for one in task.spec.channels]
    layout = pa.schema(
        [("row", pa.int64()), ("phone_hash", pa.binary()), ("user_hash", pa.binary())]
    )
    # a row of the population stands once for each of its addresses
    each = " union all ".join(
        f'select "row", user_id, {address} as address from {population} p' for address in addresses
    )

    def hashed(batch: "pa.RecordBatch") -> "pa.RecordBatch":
        phones = users = pa.nulls(batch.num_rows, pa.binary())
        if "phone_hash" in hashes:
            known = batch.column("address").to_pylist()
            phones = pa.array([vault.digest(one) if one else None for one in known], pa.binary())
        if "user_hash" in hashes:
            names = batch.column("user_id").to_pylist()
            users = pa.array([vault.user_digest(one) for one in names], pa.binary())
        return pa.record_batch([batch.column("row"), phones, users], schema=layout)

    return bind_batches(engine, "people_hashes", layout, map(hashed, engine.stream(each)))
