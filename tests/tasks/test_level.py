"""The level of scores, refreshed from the newest labels that are closed on the task's date."""

from datetime import timedelta
from pathlib import Path

import numpy as np
from chain_world import D, World, copy_home, rows, write_campaign, write_people

from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import load_campaign
from usergrowth_dagster.control.tasks import task
from usergrowth_dagster.explain.replay import replay_task
from usergrowth_dagster.learning.calibration import logit
from usergrowth_dagster.pipeline.decide import decide_task
from usergrowth_dagster.pipeline.populate import load_population
from usergrowth_dagster.pipeline.score import score_task, scoring_model
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.training.level import refreshed_level


def scores(home: Path) -> "np.ndarray":
    scored = rows(home, "scores", "task_id = 'spring' and score is not null", '"row", score')
    return np.array([score for _, score in sorted(scored)])


def test_the_level_follows_the_newest_closed_labels_and_is_replayed(
    world: World, tmp_path: Path
) -> None:
    """Guards against an option that does nothing, that sees open labels, that reorders people, or
    whose shift a replay does not know."""
    home = copy_home(world.decided, tmp_path / "home")
    write_people(home, "spring")
    plain = Project(load_settings(home))
    apply_campaign(
        plain.store, load_campaign(write_campaign(home, "spring", selection="{top_n: 20}")), "ann"
    )
    load_population(plain, task(plain.store, "spring"))
    spring = task(plain.store, "spring")
    assert refreshed_level(plain, spring, scoring_model(plain, spring)).rows == 0
    score_task(plain, spring)
    before = scores(home)

    fresh = Project(load_settings(home, refresh_level_days=7))
    level = refreshed_level(fresh, spring, scoring_model(fresh, spring))
    assert level.rows > 20 and level.last is not None and level.shift != 0
    assert level.last + timedelta(days=7) <= D, "labels that are open on D must not be looked at"
    scored = score_task(fresh, spring)
    assert not scored.unchanged and f"{level.shift:+.3f} logits" in scored.note
    assert np.allclose(logit(scores(home)), logit(before) + level.shift, atol=1e-9)
    assert score_task(fresh, spring).unchanged
    decide_task(fresh, task(fresh.store, "spring"))
    (replayed,) = replay_task(fresh, "spring")
    assert replayed.state == "equal", replayed.sentence
