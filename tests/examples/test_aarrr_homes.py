"""The homes of simulated people: the chain runs there, and the figures are near the known truth."""

from pathlib import Path

import duckdb
import numpy as np
import pytest
from chain_world import rows
from sklearn.metrics import roc_auc_score

from usergrowth_dagster.examples.aarrr import new_users
from usergrowth_dagster.examples.aarrr.ads import BY_AD, OF_THEMSELVES, ads_line
from usergrowth_dagster.examples.aarrr.new_users import DAY, new_user_lines
from usergrowth_dagster.examples.worlds.newcomers import TRUTH


@pytest.mark.usefixtures("here")
def test_new_users_are_asked_and_chosen(tmp_path: Path) -> None:
    """Guards against a campaign of another cohort, and a share chance that no feature tells."""
    home = tmp_path / "home"
    vip, sharing = new_user_lines(home, a_week=120)
    assert (vip.stage, vip.measure) == ("activation", "capture at 40 %")
    assert (sharing.stage, sharing.measure) == ("referral", "AUC")
    assert vip.data == sharing.data == "2,280 simulated new users"
    assert vip.figure is not None and vip.figure.low is not None and vip.naive is not None
    assert 0.5 < vip.figure.value < 0.95
    chance = dict(
        duckdb.execute(
            "select user_id, share_chance from read_parquet(?)", [str(home / "truth" / TRUTH)]
        ).fetchall()
    )
    sharers = {user for (user,) in rows(home, "stg_behavior", "behavior = 'share'", "user_id")}
    outcome = np.array([user in sharers for user in chance])
    best = float(roc_auc_score(outcome, np.array(list(chance.values()))))
    assert sharing.figure is not None and abs(sharing.figure.value - best) < 0.1, (sharing, best)
    decided = rows(home, "decisions", f"ds = '{DAY}'", "user_id, outcome")
    assert len(decided) == 240
    selected = {user for user, outcome in decided if outcome == "selected"}
    held_out = {user for user, outcome in decided if outcome == "holdout"}
    newest = new_users.cohort(new_users.world_of(120), new_users.NEWEST)
    assert len(selected) == 30 and held_out and selected | held_out <= set(newest)


@pytest.mark.usefixtures("here")
def test_ads_bring_what_the_truth_says(tmp_path: Path) -> None:
    """Guards against arms that people do not act by, and a second run that logs twice."""
    shown = ads_line(tmp_path / "home", devices=3_000)
    assert (shown.stage, shown.data) == ("acquisition", "3,000 simulated devices")
    figure, naive = shown.figure, shown.naive
    assert figure is not None and figure.low is not None and figure.high is not None
    assert figure.low < BY_AD * (1 - OF_THEMSELVES) < figure.high
    assert naive is not None and naive.value > figure.value + OF_THEMSELVES / 2
    logged = rows(tmp_path / "home", "rta_log", "true", "device")
    assert len(logged) == len(set(logged)) == 3_000
    assert ads_line(tmp_path / "home", devices=3_000) == shown
    assert rows(tmp_path / "home", "rta_log", "true", "device") == logged
