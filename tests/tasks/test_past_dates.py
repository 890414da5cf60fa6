"""Ranges and dates of the past: the same rows as a day at a time, and no look into the future."""

import shutil
from pathlib import Path

import pytest
from chain_world import (
    World,
    approve,
    cli,
    copy_home,
    day,
    ledger,
    rows,
    same_rows,
    succeeded,
    warehouse,
    write_campaign,
    write_people,
)

FACTS = ["raw_behavior", "raw_operation", "stg_behavior", "stg_operation"]
FACTS += ["user_day", "user_item_day", "daily_activity"]


def test_a_range_equals_its_days(
    world: World, tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run over a range reads other days, or leaves some out, than a run a day."""
    from usergrowth_dagster.defs.jobs import range_tags
    from usergrowth_dagster.homes.home import make_home, open_home
    from usergrowth_dagster.runs.execute import execute

    homes = [tmp_path / name for name in ("range", "days")]
    monkeypatch.setenv("USERGROWTH_TODAY", "2017-07-01")
    base, wanted = day(14), [day(back) for back in (13, 12)]
    make_home(homes[0], {"start_date": str(day(40))})
    shutil.rmtree(homes[0] / "landing")
    shutil.copytree(world.landed / "landing" / "behavior", homes[0] / "landing" / "behavior")
    shutil.copytree(world.landed / "landing" / "operation", homes[0] / "landing" / "operation")
    execute("ingest", tags=range_tags(day(20), base))
    copy_home(*homes)
    for home, spans in zip(
        homes, ([(wanted[0], wanted[-1])], [(d, d) for d in wanted]), strict=True
    ):
        open_home(home)
        for first, last in spans:
            execute("ingest", tags=range_tags(first, last))
            assert execute("decide", tags=range_tags(first, last)).rows["user_features"] > 0
    same_rows(*homes, [*FACTS, "user_features"])
    assert [str(row[0]) for row in rows(homes[0], "user_features", columns="distinct ds")] == [
        str(one) for one in wanted
    ]
    counts = [warehouse(home).row_counts("raw_behavior") for home in homes]
    assert counts[0] == counts[1] and len(counts[0]) == 9


def test_a_score_never_uses_a_model_of_its_future(world: World, tmp_path: Path) -> None:
    """A past date is scored by today's model, which has seen how the users went on."""
    home = copy_home(world.decided, tmp_path / "home")
    past = day(30)
    lines = (home / "landing/population/care/population.csv").read_text(encoding="utf-8")
    write_people(home, "past", lines.splitlines()[:101])
    path = write_campaign(home, "past", execution_date=str(past))
    succeeded(cli(home, "apply", "-f", str(path)))
    approve(home, "past")
    models = models_of(home)
    assert [version for version, seen in models if seen < str(past)] == []
    done = cli(home, "run", "--date", str(past))
    succeeded(done)
    # said before the plan is made, since it freezes the decision
    (said,) = [line for line in done.stderr.splitlines() if "has passed for past" in line]
    assert "nobody is texted" in said and f"run --date {past} --rehearse" in said
    used = rows(home, "scores", "task_id = 'past'", "distinct model_name, model_version")
    assert len(used) == 1
    assert dict(models_of(home))[used[0][1]] < str(past)
    # nothing is sent for it, and today's decisions keep their model
    assert {row[2] for row in ledger(home) if row[0] == "past"} == {"expired"}
    kept = rows(home, "scores", "task_id = 'care'", "distinct model_version")
    assert kept == rows(world.decided, "scores", "task_id = 'care'", "distinct model_version")
    # the plan can be thrown away, and made again by whoever replays the date
    assert "thrown away" in succeeded(cli(home, "redecide", "past", "--why", "ran too late"))
    assert not [row for row in ledger(home) if row[0] == "past"]
    succeeded(cli(home, "run", "--date", str(past), USERGROWTH_TODAY=str(past)))
    assert {row[2] for row in ledger(home) if row[0] == "past"} <= {"accepted", "skipped"}
    assert [row for row in ledger(home) if row[0] == "past" and row[2] == "accepted"]


def models_of(home: Path) -> list[tuple[str, str]]:
    """Versions of the churn model with the last day that their labels saw."""
    from usergrowth_dagster.learning.store import versions
    from usergrowth_dagster.settings import load_settings

    models = versions(load_settings(home), "churn")
    return [(str(ref.version), ref.last_label_day.isoformat()) for ref in models]
