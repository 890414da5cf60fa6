"""What acquisition brought: new customers of the treated devices beyond those of the control share.

A device's first logged request in the period gives its arm and the start of its window. It counts
as a new customer when a user that landed with it acts for the first time ever in the window: on the
day of the request or within so many days after it. Both arms are counted alike, so devices whose
users never land with an id take the same part of each away.

Where control rejects, the difference is what the ads brought. Where control accepts, it is what the
strategies brought beyond bidding for everybody; then the control arm costs money too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from usergrowth_dagster.acquisition.build import ACTIVITY, RAW, ids_sql
from usergrowth_dagster.acquisition.definition import FILE_NAME, read_acquisition
from usergrowth_dagster.acquisition.landing import TABLE, TABLE_COLUMNS, land_log, log_key
from usergrowth_dagster.data.contracts import CONTRACTS, IDENTITY
from usergrowth_dagster.effects.lift import Counts, rate_difference, scaled
from usergrowth_dagster.effects.result import Estimate
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.identity.links import Keys
from usergrowth_dagster.identity.run import land_identity
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.relation import Relation, bind_days

ARMS = ("treatment", "control")


@dataclass(frozen=True)
class Arm:
    """Devices of one arm in the log.

    Attributes:
        devices: with a request in the period.
        accepted: of these, with an acceptance.
        customers: of these, new customers within the window.
    """

    devices: int
    accepted: int
    customers: int


@dataclass(frozen=True)
class Lift:
    """The report of a period; intervals are of 95 %.

    Attributes:
        first, last: days of the requests.
        window_days: days after a device's first request in which a customer counts.
        share: of the devices, that the log holds.
        arms: by name.
        mixed: devices that were in both arms, since the salt or the share changed; left out.
        difference: of the shares of new customers, treated less control.
        incremental: new customers beyond the control share's, of all treated devices.
        cost: what the treated devices cost beyond as many of control, in currency; None: not given.
        cost_per_incremental: cost of one of them; None without a cost, and without an interval
            above zero.
    """

    first: date
    last: date
    window_days: int
    share: float
    arms: Mapping[str, Arm]
    mixed: int
    difference: Estimate
    incremental: Estimate
    cost: float | None
    cost_per_incremental: Estimate | None


def measure_lift(
    project: Project,
    first: date,
    last: date,
    *,
    window_days: int = 7,
    cost: float | None = None,
    control_cost: float = 0.0,
) -> Lift:
    """Land the log and the ids, and compare the arms.

    Args:
        project: the home.
        first: first day of the requests.
        last: last day of them.
        window_days: days after the first request of a device, 0 to 365.
        cost: what the exchange billed for the treated devices in the period, in currency.
        control_cost: what it billed for the control devices.

    Raises:
        UserError: the days of the window have not passed, nothing is logged, there is no control
            arm, or the log's share changed in the period.
    """
    policy = read_acquisition(project.settings.home / FILE_NAME)
    end = last + timedelta(days=window_days)
    if end >= (today := project.settings.current_date()):
        raise UserError(
            f"the window of the last request ends on {end}, and {today} has not passed it; name an "
            "earlier --to or fewer --days",
            code="date.out_of_range",
        )
    land_log(project, today)
    land_identity(project, today)
    with open_engine(project.settings) as engine:
        log = _bind_log(engine, project, first, last)
        share = _share(engine, log, first, last)
        Keys(_pads(log_key(project))).bind(engine, "device_key")
        files = [path for paths in project.warehouse.files(RAW).values() for path in paths]
        engine.bind_files(RAW, files, CONTRACTS[IDENTITY].raw_types())
        days = [day for day in project.warehouse.days(ACTIVITY) if day <= end]
        types = {"ds": "DATE", "user_id": "VARCHAR"}
        activity = bind_days(engine, project.warehouse, ACTIVITY, days, types)
        rows = engine.rows(_counts_sql(log, ids_sql(policy, RAW), activity, window_days))
    arms = {name: Arm(0, 0, 0) for name in ARMS} | {
        name: Arm(*counts) for name, *counts in rows if name in ARMS
    }
    mixed = sum(counts[0] for name, *counts in rows if name == "mixed")
    if not all(arm.devices for arm in arms.values()):
        missing = next(name for name in ARMS if not arms[name].devices)
        raise UserError(
            f"no device of the {missing} arm is in the log of {first} to {last}, so there is "
            f"nothing to compare; control.share of {FILE_NAME} draws the arms",
            code="acquisition.no_control",
        )
    return _lift((first, last, window_days, share), arms, mixed, cost, control_cost)


def _lift(
    period: tuple[date, date, int, float],
    arms: Mapping[str, Arm],
    mixed: int,
    cost: float | None,
    control_cost: float,
) -> Lift:
    treated, control = arms["treatment"], arms["control"]
    difference = rate_difference(
        Counts(treated.customers, treated.devices, control.customers, control.devices)
    )
    incremental = scaled(difference, treated.devices / period[3])
    extra = None if cost is None else cost - control_cost * treated.devices / control.devices
    return Lift(
        *period, arms, mixed, difference, incremental, extra, cost_of_one(extra, incremental)
    )


def cost_of_one(cost: float | None, incremental: Estimate) -> Estimate | None:
    """Cost of an incremental customer, its interval the other's inverted; None where it spans 0."""
    if cost is None or incremental.low is None or incremental.high is None or incremental.low <= 0:
        return None
    low, high = sorted((cost / incremental.low, cost / incremental.high))
    return Estimate(cost / incremental.value, low, high, incremental.p_value)


def _bind_log(engine: Engine, project: Project, first: date, last: date) -> Relation:
    days = [day for day in project.warehouse.days(TABLE) if first <= day <= last]
    return bind_days(engine, project.warehouse, TABLE, days, types_of(TABLE_COLUMNS))


def _share(engine: Engine, log: Relation, first: date, last: date) -> float:
    """The one share of the devices that a period's log holds."""
    shares = [share for (share,) in engine.rows(f"select distinct share from {log} order by share")]
    if not shares:
        raise UserError(
            f"no decision of {first} to {last} is logged; log.share of {FILE_NAME} must be above 0 "
            "when the service runs",
            code="acquisition.nothing_logged",
        )
    if len(shares) > 1:
        raise UserError(
            f"log.share changed between {first} and {last} ({', '.join(map(str, shares))}); name a "
            "period with one share",
            code="acquisition.mixed_log",
        )
    return float(shares[0])


def _counts_sql(log: Relation, ids: str, activity: Relation, window_days: int) -> str:
    """The rows (arm, devices, accepted, customers); the arm of a device with both is ``mixed``."""
    return f"""
        with requests as (
            select device, min(ds) as first, bool_or(accepted) as accepted,
                if(count(distinct arm) > 1, 'mixed', min(arm)) as arm
            from {log} group by device
        ), began as (
            select user_id, min(ds) as day from {activity} group by user_id
        ), ids as (
            select replace(cast(device_key(kind || ':' || md5) as varchar), '-', '') as device,
                user_id
            from ({ids})
        ), customers as (
            select distinct device from requests join ids using (device) join began using (user_id)
            where day between first and first + {window_days}
        )
        select arm, count(*), count(*) filter (where accepted), count(customers.device)
        from requests left join customers using (device) group by arm
    """


def _pads(key: bytes) -> tuple[bytes, bytes]:
    """The two blocks of HMAC (RFC 2104), so that SQL makes the log's hashes itself."""
    block = key.ljust(64, b"\0")
    return bytes(byte ^ 0x36 for byte in block), bytes(byte ^ 0x5C for byte in block)
