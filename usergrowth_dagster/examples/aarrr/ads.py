"""What ads bring: simulated devices that an ad exchange asks about, in a home of their own.

Some people become customers by themselves, and some only if they see an ad. The service's decision
draws the arms; people act by theirs, land with their device, and the report of the log compares
both arms. So the true number of customers that the ads bring is known.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from usergrowth_dagster.acquisition.decide import Decider
from usergrowth_dagster.acquisition.definition import FILE_NAME, Acquisition, read_acquisition
from usergrowth_dagster.acquisition.devices import Device, hashed
from usergrowth_dagster.acquisition.landing import log_folder, log_key
from usergrowth_dagster.acquisition.lift import measure_lift
from usergrowth_dagster.acquisition.log import DecisionLog
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.effects.lift import wilson
from usergrowth_dagster.examples.aarrr.table import Figure, Line
from usergrowth_dagster.examples.datasets import Example
from usergrowth_dagster.examples.demo import ingest, write_home_files
from usergrowth_dagster.examples.worlds._landing import COLUMNS, folder, put
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.project import Project

FIRST, DAY = date(2024, 2, 1), date(2024, 2, 12)
"""The day of the requests, and the execution date on which their windows are over."""
DEVICES = 6_000
WINDOW = 7
OF_THEMSELVES, BY_AD = 0.04, 0.03
"""Chances to become a customer without an ad, and by an ad alone."""

POLICY = """\
# Bid for devices of no user, and leave three in ten alone to see what the ads bring.
salt: demo
ids: {oaid: oaid}
control: {share: 0.3, answer: reject}
strategies:
  - {name: newcomers, device: unknown, on_failure: accept}
"""


def ads_line(home: Path, devices: int = DEVICES) -> Line:
    """Decide for every device, let people act, and give the line of what the ads brought.

    Args:
        home: folder of a home for them; a second run measures the same log again.
        devices: how many the exchange asks about.

    Raises:
        UserError: the folder holds another home, or a step failed.
    """
    settings = {"today": DAY.isoformat(), "start_date": FIRST.isoformat(), "timezone": "UTC"}
    project = Project(make_home(home, settings))
    chosen = Example("ads", DAY, FIRST, settings, {}, home_files={FILE_NAME: POLICY})
    write_home_files(project, chosen)
    shown = _decided(project, read_acquisition(home / FILE_NAME), devices)
    _land(project.landing, _customers(shown, project.settings.seed))
    ingest(chosen)
    lift = measure_lift(project, FIRST, FIRST, window_days=WINDOW)
    treated = lift.arms["treatment"]
    return Line(
        "acquisition",
        f"RTA, {WINDOW} days: how many new customers the ads bring",
        f"{devices:,} simulated devices",
        "new customers a treated device",
        Figure(
            "beyond the control share",
            lift.difference.value,
            lift.difference.low,
            lift.difference.high,
        ),
        Figure(
            "all of the treated",
            treated.customers / treated.devices,
            *wilson(treated.customers, treated.devices),
        ),
        f"the truth is {BY_AD * (1 - OF_THEMSELVES):.4f}",
    )


def _decided(project: Project, policy: Acquisition, devices: int) -> list[bool]:
    """Whether each device is bid for, and so sees the ad; the first run logs the decisions."""
    now = datetime.combine(FIRST, datetime.min.time(), UTC).timestamp() + 3600
    decider, place = Decider(policy, lambda: None), log_folder(project)
    log = None
    if not any(place.rglob("*.parquet")):
        log = DecisionLog(place, log_key(project), policy.log.share, UTC)
    accepted = []
    for number in range(devices):
        device = Device("oaid", hashed("oaid", f"ad{number:06d}"))
        decision = decider.decide([device], [], now)
        accepted.append(decision.accept)
        if log is not None:
            log.keep("json", decision, now)
    if log is not None:
        log.close()
    return accepted


def _customers(shown: Sequence[bool], seed: int) -> list[int]:
    """Numbers of the devices whose people become customers, by themselves or by the ad."""
    import numpy as np

    drawn = np.random.default_rng(seed).random((len(shown), 2))
    become = (drawn[:, 0] < OF_THEMSELVES) | ((drawn[:, 1] < BY_AD) & np.array(shown))
    return [int(number) for number in np.flatnonzero(become)]


def _land(landing: Storage, customers: Sequence[int]) -> None:
    """Write what customers do for the first time, and the device that each is seen with."""
    acts: dict[date, list[str]] = {}
    for number in customers:
        acts.setdefault(FIRST + timedelta(days=1 + number % WINDOW), []).append(f"{number:06d}")
    for day, numbers in acts.items():
        behavior = [",".join(COLUMNS["behavior"])]
        behavior += [f"c{number},login,,," for number in numbers]
        identity = ["user_id,id_type,id_value,source,time"]
        identity += [f"c{number},oaid,ad{number},app," for number in numbers]
        for table, lines in (("behavior", behavior), ("identity", identity)):
            text = "\n".join([*lines, ""])
            put(landing, f"{folder(table, day)}/part-0.csv", text.encode())
