"""From decisions to the log, the table and the report, against sums in plain Python."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.identity_desk import DAY, IdentityDesk, before
from support.patience import until
from support.rta_service import policy
from typer.testing import CliRunner

from usergrowth_dagster.acquisition.decide import Decider
from usergrowth_dagster.acquisition.devices import Device, hashed
from usergrowth_dagster.acquisition.landing import TABLE, land_log, log_folder, log_key
from usergrowth_dagster.acquisition.lift import cost_of_one, measure_lift
from usergrowth_dagster.acquisition.log import DecisionLog
from usergrowth_dagster.cli import app
from usergrowth_dagster.effects.lift import Counts, rate_difference
from usergrowth_dagster.effects.result import Estimate
from usergrowth_dagster.errors import UserError

POLICY = "salt: s\nids: {oaid: oaid}\nstrategies: [{name: all}]\n"
RULES = policy(
    ids={"oaid": "oaid"},
    strategies=[{"name": "all"}],
    control={"share": 0.3},
    experiments={"7": ["all"]},
)
FIRST = before(12)
NUMBERS = range(200)


def device(number: int) -> Device:
    return Device("oaid", hashed("oaid", f"d{number}"))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IdentityDesk:
    made = IdentityDesk(tmp_path / "home")
    monkeypatch.setenv("USERGROWTH_HOME", str(made.home))
    (made.home / "acquisition.yml").write_text(POLICY)
    return made


def decide(
    desk: IdentityDesk, day: date, numbers: Sequence[int], rules: Any = RULES
) -> dict[int, str]:
    """Decide devices on a day, log them, and return their arms."""
    log = DecisionLog(log_folder(desk.project), log_key(desk.project), rules.log.share, UTC)
    now, arms = datetime.combine(day, datetime.min.time(), UTC).timestamp() + 3600, {}
    for number in numbers:
        decision = Decider(rules, lambda: None).decide([device(number)], ["\ud800", "7"], now)
        log.keep("json", decision, now)
        arms[number] = decision.arm
    log.keep("json", Decider(rules, lambda: None).decide([], [], now), now)
    log.close()
    return arms


def act(desk: IdentityDesk, days: dict[str, Sequence[date]]) -> None:
    """Let users act on days."""
    rows = [(day, user) for user, listed in days.items() for day in listed]
    columns = {
        "ds": pa.array([day for day, _ in rows], pa.date32()),
        "user_id": [user for _, user in rows],
    }
    desk.project.warehouse.replace("user_day", pa.table(columns), days={day for day, _ in rows})


def test_the_report_counts_new_customers_of_each_arm(desk: IdentityDesk) -> None:
    """Guards against customers of before, of after the window, or counted twice for one device."""
    arms = decide(desk, FIRST, NUMBERS)
    assert decide(desk, FIRST + timedelta(days=1), NUMBERS[:50]) == {
        n: arms[n] for n in NUMBERS[:50]
    }
    days, right = {}, {"treatment": 0, "control": 0}
    for number in NUMBERS:
        kind = number % 4 if arms[number] == "treatment" else number % 10
        start = FIRST + timedelta(days=(0, 3, -1, 4, 0)[kind] if kind < 5 else 9)
        days[f"u{number}"] = [start, start + timedelta(days=1)]
        right[arms[number]] += FIRST <= start <= FIRST + timedelta(days=3)
    act(desk, days)
    links = [(f"u{number}", "oaid", f"d{number}") for number in NUMBERS]
    desk.land([*links, ("u0b", "oaid", "d0"), ("ux", "oaid", "unseen")], before(1))
    lift = measure_lift(desk.project, FIRST, FIRST + timedelta(days=1), window_days=3, cost=500.0)
    counted = {name: (arm.devices, arm.accepted, arm.customers) for name, arm in lift.arms.items()}
    sizes = {name: list(arms.values()).count(name) for name in right}
    assert counted == {
        "treatment": (sizes["treatment"], sizes["treatment"], right["treatment"]),
        "control": (sizes["control"], 0, right["control"]),
    }
    assert right["treatment"] > right["control"] > 0
    counts = Counts(right["treatment"], sizes["treatment"], right["control"], sizes["control"])
    assert lift.difference == rate_difference(counts)
    beyond = right["treatment"] - right["control"] / sizes["control"] * sizes["treatment"]
    assert lift.incremental.value == pytest.approx(beyond)
    assert lift.cost_per_incremental is not None
    assert lift.cost_per_incremental.value == pytest.approx(500 / beyond)
    period = ["--from", f"{FIRST}", "--to", f"{FIRST + timedelta(days=1)}"]
    result = CliRunner().invoke(app, ["rta", "report", *period, "--days", "3", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["arms"]["control"]["customers"] == right["control"]


def test_the_log_holds_no_id_and_lands_once(desk: IdentityDesk) -> None:
    """Guards against ids in files, decisions that land twice, and a day that lands half."""
    decide(desk, FIRST, NUMBERS[:20])
    decide(desk, DAY, NUMBERS[:3])
    assert land_log(desk.project, DAY) == {FIRST: 20}
    assert land_log(desk.project, DAY) == {}
    decide(desk, FIRST, NUMBERS[20:25])
    assert land_log(desk.project, DAY) == {FIRST: 25}
    rows = desk.rows(TABLE, FIRST)
    assert len({row["device"] for row in rows}) == 25
    assert {(row["exchange"], row["experiment"], row["known"]) for row in rows} == {
        ("json", "7", False)
    }
    written = b"".join(path.read_bytes() for path in log_folder(desk.project).rglob("*.parquet"))
    assert not any(device(number).md5[:16].encode() in written for number in NUMBERS[:25])
    for path in log_folder(desk.project).rglob("*.parquet"):
        path.unlink()
    assert land_log(desk.project, DAY) == {} and len(desk.rows(TABLE, FIRST)) == 25


def test_a_sample_is_of_devices_and_a_full_queue_is_counted(
    desk: IdentityDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a device with half of its requests, and a queue that eats the memory."""
    half = policy(strategies=[{"name": "all"}], log={"share": 0.5})
    for back in (3, 2):
        decide(desk, before(back), NUMBERS, half)
    land_log(desk.project, DAY)
    sampled = [{row["device"] for row in desk.rows(TABLE, before(back))} for back in (3, 2)]
    assert sampled[0] == sampled[1] and 70 < len(sampled[0]) < 130
    monkeypatch.setattr("usergrowth_dagster.data.row_log.MOST_WAITING", 2)
    lost: list[int] = []
    log = DecisionLog(log_folder(desk.project), b"k" * 32, 1.0, UTC, lost.append)
    for number in range(5):
        log.keep("json", Decider(RULES, lambda: None).decide([device(number)], [], 0.0), 0.0)
    assert (sum(lost), log.write(), log.write()) == (3, 2, 0)
    monkeypatch.setattr("usergrowth_dagster.data.row_log.MOST_WAITING", 100)
    monkeypatch.setattr("usergrowth_dagster.data.row_log.WRITE_AT", 3)
    log.watch(every=3600)
    for number in range(4):
        log.keep("json", Decider(RULES, lambda: None).decide([device(number)], [], 0.0), 0.0)
    until(lambda: len([*log_folder(desk.project).glob("ds=1970*/*.parquet")]) >= 2)
    log.close()


def test_a_day_that_cannot_be_written_costs_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Guards against a thread that ends with the first full disk, and losses that nobody counts."""
    lost: list[int] = []
    log = DecisionLog(tmp_path, b"k" * 32, 1.0, UTC, lost.append)
    (tmp_path / "ds=19700101").touch()
    for now in (0.0, 1.0, 86_400.0):
        log.keep("json", Decider(RULES, lambda: None).decide([device(1)], [], now), now)
    assert (log.write(), lost) == (1, [2])
    assert len([*tmp_path.glob("ds=19700102/*.parquet")]) == 1
    assert "2 rows not logged: FileExistsError" in caplog.text


def test_a_report_that_would_mislead_is_refused(desk: IdentityDesk) -> None:
    """Guards against a lift without a control arm, of half a window, or of two samples."""
    desk.land([("u1", "oaid", "d1")], before(1))
    with pytest.raises(UserError, match="no decision of 2024-02-21 to 2024-02-21 is logged"):
        measure_lift(desk.project, FIRST, FIRST)
    decide(desk, FIRST, NUMBERS[:5], policy(strategies=[{"name": "all"}]))
    with pytest.raises(UserError, match="no device of the control arm is in the log"):
        measure_lift(desk.project, FIRST, FIRST)
    decide(desk, FIRST, NUMBERS, policy(strategies=[{"name": "all"}], log={"share": 0.5}))
    with pytest.raises(UserError, match=r"log\.share changed between .* \(0\.5, 1\.0\)"):
        measure_lift(desk.project, FIRST, FIRST)
    with pytest.raises(UserError, match="the window of the last request ends on 2024-03-04"):
        measure_lift(desk.project, FIRST, before(7))


def test_devices_of_both_arms_are_left_out_and_named(desk: IdentityDesk) -> None:
    """Guards against a changed salt that puts treated devices into the control arm."""
    first = decide(desk, FIRST, NUMBERS)
    other = policy(salt="other", strategies=[{"name": "all"}], control={"share": 0.3})
    second = decide(desk, FIRST, NUMBERS, other)
    act(desk, {"u": [FIRST]})
    desk.land([("u", "oaid", "d1")], before(1))
    lift = measure_lift(desk.project, FIRST, FIRST)
    assert lift.mixed == sum(first[number] != second[number] for number in NUMBERS) > 0
    assert sum(arm.devices for arm in lift.arms.values()) == len(NUMBERS) - lift.mixed


@pytest.mark.parametrize(
    ("cost", "incremental", "right"),
    [
        (100.0, Estimate(10.0, 5.0, 20.0), (10.0, 5.0, 20.0)),
        (-100.0, Estimate(10.0, 5.0, 20.0), (-10.0, -20.0, -5.0)),
        (100.0, Estimate(10.0, -1.0, 20.0), None),
        (None, Estimate(10.0, 5.0, 20.0), None),
    ],
)
def test_the_cost_of_one_has_an_interval_or_is_not_named(
    cost: float | None, incremental: Estimate, right: tuple[float, ...] | None
) -> None:
    """Guards against a cost a customer whose interval is upside down, or is not one at all."""
    one = cost_of_one(cost, incremental)
    assert (None if one is None else (one.value, one.low, one.high)) == right
