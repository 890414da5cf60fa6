"""What a model of effects that cannot read the rows means for those who choose by it or not."""

from pathlib import Path

import pytest
from chain_world import rows, write_campaign, write_people

from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import load_campaign
from usergrowth_dagster.control.tasks import task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.explain.replay import replay_task
from usergrowth_dagster.learning.artifacts import SPEC_FILE
from usergrowth_dagster.learning.store import add_version, client, experiment, versions
from usergrowth_dagster.pipeline.decide import decide_task
from usergrowth_dagster.pipeline.populate import load_population
from usergrowth_dagster.pipeline.score import Scored, effect_model, score_task
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.training.models import vouch_for
from usergrowth_dagster.training.train import effect_config


def campaign(home: Path, selection: str) -> Project:
    people = home / "landing" / "population" / "care" / "population.csv"
    write_people(home, "spring", people.read_text("utf-8").splitlines()[:200])
    project = Project(load_settings(home))
    apply_campaign(
        project.store, load_campaign(write_campaign(home, "spring", selection=selection)), "ann"
    )
    load_population(project, task(project.store, "spring"))
    return project


def add_effects(project: Project, folder: Path, gone: str = "") -> None:
    """An approved version of ``uplift``; what it says does not matter here, so it is another model,
    and learned from a column that is no more if one is named."""
    made = client(project.settings)
    (winback,) = versions(project.settings, "winback")
    model = Path(made.download_artifacts(winback.run_id, "model", str(folder)))
    if gone:
        spec = model / SPEC_FILE
        spec.write_text(spec.read_text("utf-8").replace(f'"{gone}"', '"as_it_was"'), "utf-8")
    run = made.create_run(experiment(made, project.settings, "uplift"))
    made.log_artifacts(run.info.run_id, str(model), "model")
    config = effect_config(project, task(project.store, "spring").spec)
    tags = made.get_model_version("winback", str(winback.version)).tags
    tags |= {"config_hash": config.config_hash(), "fingerprint": gone}
    vouch_for(project, add_version(made, project.settings, "uplift", run.info.run_id, tags))


def scored(project: Project) -> Scored:
    return score_task(project, task(project.store, "spring"))


def test_an_effect_that_cannot_be_read_stops_no_campaign_by_score(
    home: Path, tmp_path: Path
) -> None:
    """Guards against a send that fails for a model that the campaign does not ask for, against
    scores made anew in every run, and against a replay that asks that model."""
    project = campaign(home, "{top_n: 60}")
    add_effects(project, tmp_path, gone="recency_days")
    scores = scored(project)
    assert effect_model(project, task(project.store, "spring")) is not None
    assert (scores.uplift_version, scores.unchanged) == ("", False) and scores.scored
    assert "no effect was scored: model uplift version 1 cannot score these rows" in scores.note
    assert "the rows lack as_it_was" in scores.note and "\n" not in scores.note
    assert rows(home, "scores", "task_id = 'spring'", "count(uplift)") == [(0,)]
    again = scored(project)
    assert again.unchanged and again.note == scores.note

    decided = decide_task(project, task(project.store, "spring"))
    assert decided.outcomes["selected"] and decided.note == ""
    (replayed,) = replay_task(project, "spring")
    assert replayed.state == "equal", replayed.sentence
    add_effects(project, tmp_path)
    after = scored(project)
    assert (after.uplift_version, after.unchanged, after.note) == ("2", False, "")


def test_a_campaign_by_effect_needs_a_fallback_then(home: Path, tmp_path: Path) -> None:
    """Guards against a campaign by effect that is decided by score though nobody said so."""
    project = campaign(home, "{top_n: 60, rank_by: uplift}")
    add_effects(project, tmp_path, gone="recency_days")
    with pytest.raises(UserError, match=r"'spring' chooses by uplift, but .*rows lack") as refused:
        scored(project)
    assert "selection.fallback" in str(refused.value) and "\n" not in str(refused.value)

    project = campaign(home, "{top_n: 60, rank_by: uplift, fallback: {top_n: 30}}")
    assert "no effect was scored" in scored(project).note
    decided = decide_task(project, task(project.store, "spring"))
    assert decided.outcomes["selected"] == 30 and "fallback decided by score" in decided.note
