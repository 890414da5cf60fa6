"""The questions of a decision and their answers, the features that mattered, and what came after."""

import json
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chain_world import D, World, cli, copy_home, rows, succeeded

from usergrowth_dagster.audience.eligibility import OUTCOMES
from usergrowth_dagster.audience.policy import Policy, Threshold, TopN
from usergrowth_dagster.control.tasks import task
from usergrowth_dagster.explain import why as why_module
from usergrowth_dagster.explain.story import Asking, Cut, Story, outcome_sentence, steps_of
from usergrowth_dagster.learning.artifacts import load
from usergrowth_dagster.learning.calibration import apply_knots, logit
from usergrowth_dagster.learning.contributions import contributions
from usergrowth_dagster.learning.encoding import flat_frame
from usergrowth_dagster.learning.importance import row_parts
from usergrowth_dagster.learning.model import Blend, positive_share
from usergrowth_dagster.learning.store import versions
from usergrowth_dagster.measure.effects import measure
from usergrowth_dagster.pipeline.provenance import (
    Provenance,
    read_provenance,
    recorded_project,
    recorded_task,
)
from usergrowth_dagster.pipeline.scoring_rows import bind_population, bind_scoring_rows
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.training.train import training_config
from usergrowth_dagster.warehouse.engine import open_engine

_CHOICE = ("the 40 best by score", "score above 0.3")


def pins_of(project: Project, name: str) -> Provenance:
    return read_provenance(project.warehouse, name)[D]


def row_of(outcome: str, **changes: Any) -> dict[str, Any]:
    """A row of a decision."""
    ranked = OUTCOMES.index(outcome) >= OUTCOMES.index("below_threshold")
    return {
        "outcome": outcome,
        "score": None if outcome in ("duplicate", "no_features") else 0.25,
        "rank": 7 if ranked else None,
        "model_name": "churn",
        "model_version": "1",
        "propensity": 0.9,
        **dict.fromkeys(("uplift", "uplift_version", "net_value", "holdout", "stratum")),
        **changes,
    }


def test_each_outcome_has_one_no(world: World) -> None:
    """An outcome is explained by another question's no, or with several, or with none."""
    project = Project(load_settings(world.decided))
    pins = pins_of(project, "care")
    spec = recorded_task(pins).spec
    email = spec.model_copy(update={"channel": "email"})
    for outcome in OUTCOMES:
        mine = email if outcome.endswith("email") else spec
        if outcome == "no_consent":
            contact = mine.contact.model_copy(update={"require_consent": "ok"})
            mine = mine.model_copy(update={"contact": contact})
        if outcome == "not_in_segment":
            selection = mine.selection.model_copy(update={"segment": "lapsing"})
            mine = mine.model_copy(update={"selection": selection})
        row = row_of(outcome)
        if outcome in ("many_users", "same_person"):  # asked of a person of several users alone
            row["users"] = 2
        about = "registered lately" if outcome == "not_in_question" else ""
        steps = steps_of(row, mine, pins, Cut(40, 0.3), Asking(28, about))
        answers = [step.answer for step in steps]
        wanted = 0 if outcome == "selected" else 1
        assert answers.count("no") == wanted, (outcome, steps)
        if "not asked" in answers:
            assert answers.index("no") < answers.index("not asked"), outcome
            if outcome not in ("explored", "holdout"):
                assert set(answers[answers.index("no") + 1 :]) <= {"not asked"}, outcome
        assert not any("_" in step.question for step in steps)
    for by, wanted_answers in (("global", ["no", "not asked"]), ("campaign", ["yes", "no"])):
        steps = steps_of(row_of("holdout", holdout=by), spec, pins, Cut(40, 0.3), Asking(28))
        assert [step.answer for step in steps[-2:]] == wanted_answers

    def asked(policy: Policy, **row: Any) -> list[str]:
        choice = {**pins.choice, "policy": policy.model_dump(mode="json")}
        made = steps_of(
            row_of(**row),
            spec,
            pins.model_copy(update={"choice": choice}),
            Cut(40, 0.3),
            Asking(28),
        )
        return [f"{s.question}: {s.answer} {s.detail}".strip() for s in made][-4:-2]

    policy = Threshold(threshold=0.3, explore=0.1)
    assert asked(policy, outcome="below_threshold") == [
        "score above 0.3: no score 0.2500",
        "drawn at random from those not chosen: no the chance was 10.00%",
    ]
    assert asked(TopN(n=5, explore=0.1), outcome="explored", propensity=0.08) == [
        "the 5 best by score: no rank 7; the last one chosen has rank 40",
        "drawn at random from those not chosen: yes the chance was 8.00%",
    ]
    old = steps_of(row_of("below_threshold"), spec, None, Cut(40, 0.3), Asking(28))
    assert [s.question for s in old if s.answer == "no"] == ["chosen by the campaign's policy"]


def test_parts_add_up_to_the_score(world: World) -> None:
    """A feature is said to raise what it lowers: the parts are not those of the score."""
    project = Project(load_settings(world.decided))
    for name in ("care", "comeback"):
        pins = pins_of(project, name)
        then, the_task = recorded_project(project, pins, as_scored=True), recorded_task(pins)
        assert pins.scored is not None
        pin = pins.scored.models["response"]
        model = load(next(r for r in versions(project.settings, pin.name)))
        with open_engine(project.settings) as engine:
            population = bind_population(engine, then, the_task)
            config = training_config(then, the_task.spec)
            scored = bind_scoring_rows(engine, then, the_task, population, config).response
            columns = model.spec.projection(scored.columns)
            table = engine.arrow(f'select {columns}, "row" from {scored} order by "row"')
            frame = flat_frame(table, model.spec)
            parts = row_parts(model.model, model.spec, frame).sum(axis=1)
            pipeline = model.model.pipeline
            members = pipeline.members if isinstance(pipeline, Blend) else [pipeline]
            raw = np.mean(
                [np.log(p / (1 - p)) for p in (positive_share(m, frame) for m in members)], axis=0
            )
            assert np.ptp(raw - parts) < 1e-5  # but for the intercept, in single precision
            place = int(np.argmax(raw))
            row = int(table.column("row")[place].as_py())
            every = contributions(engine, model, str(scored), row, top=1000)
            contributed = contributions(engine, model, str(scored), row)
            assert contributions(engine, model, str(scored), 10**9) == []
        assert contributed == every[: len(contributed)] and 0 < len(contributed) <= 6
        strengths = [abs(np.log(one.odds)) for one in every]
        assert strengths == sorted(strengths, reverse=True)
        # a sample of 500 holds all others here
        ends = 1 / (1 + np.exp(-np.array([raw[place], np.delete(raw, place).mean()])))
        gap = np.subtract(*logit(apply_knots(ends, model.model.knots)))
        assert sum(np.log(one.odds) for one in every) == pytest.approx(gap, abs=0.15)
        assert gap > 0.5


def story_of(project: Project, user: str, campaign: str) -> Story:
    (story,) = why_module.why(project, user, campaign=campaign).tasks
    return story


def test_stories_agree_with_the_decision(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The story gives other answers than the decision has, or of an outcome of others."""
    home = copy_home(world.decided, tmp_path / "home")
    project = Project(load_settings(home))
    people = rows(home, "decisions", "task_id = 'comeback'", "outcome, user_id, score")
    by_outcome = {outcome: user for outcome, user, _ in people}
    assert {"selected", "holdout", "below_threshold"} <= set(by_outcome)
    for outcome, user in by_outcome.items():
        story = story_of(project, user, "comeback")
        assert story.decisions[0]["outcome"] == outcome
        no = [step.question for step in story.steps if step.answer == "no"]
        assert len(no) == (outcome != "selected"), (outcome, story.steps)
        assert story.mattered or story.mattered_note == "there is no score"
        monkeypatch.setattr(why_module, "what_mattered", lambda *_: ([{"odds": 1.0}], ""))
        assert story.eligible is (outcome in ("selected", "holdout", "below_threshold"))
        assert story.outcome is None
    sent = story_of(project, by_outcome["selected"], "comeback")
    assert sent.steps[-1].answer == "yes" and "contact policy" in sent.steps[-1].question
    assert [step.answer for step in sent.steps if step.question in _CHOICE] == ["yes"]

    for day, folder in ((1, "ds=20170505"), (2, "ds=20170506")):
        source = home / "landing" / "behavior" / f"ds={D - timedelta(days=7 - day):%Y%m%d}"
        target = home / "landing" / "behavior" / folder
        target.mkdir()
        for path in source.glob("*.csv"):
            text = path.read_text("utf-8")
            (target / path.name).write_text(text, "utf-8")
    land(project)
    measure(project, task(project.store, "comeback"))
    counts = Counter()
    for user in [user for outcome, user, _ in people if outcome == "selected"][:12]:
        story = story_of(project, user, "comeback")
        assert story.outcome is not None and not story.stays
        counts[story.outcome["returned"]] += 1
        ((returned, days),) = rows(
            home, "outcomes", f"user_id = '{user}'", "returned, days_to_return"
        )
        assert (story.outcome["returned"], story.outcome["days_to_return"]) == (returned, days)
    assert len(counts) == 2, counts
    ((user,), *_) = rows(home, "decisions", "task_id = 'care'", "user_id")
    assert story_of(project, user, "care").stays  # a churn model decided

    monkeypatch.undo()
    page = succeeded(cli(home, "why", by_outcome["selected"], "--campaign", "comeback"))
    assert "Since then: " in page and "what moved the score" in page and "measured yet" not in page
    document = json.loads(succeeded(cli(home, "why", by_outcome["holdout"], "--json")))
    (story_told,) = [one for one in document["tasks"] if one["task_id"] == "comeback"]
    assert {"question", "answer", "detail"} == set(story_told["steps"][0])
    assert {"meaning", "value", "usual", "odds"} <= set(story_told["mattered"][0])
    assert story_told["outcome"]["window_last"] == str(D + timedelta(days=14))


def land(project: Project) -> None:
    from usergrowth_dagster.warehouse.build import Builder
    from usergrowth_dagster.warehouse.landing import land_days

    wanted = [D + timedelta(days=n) for n in (1, 2)]
    land_days(project.settings, project.landing, project.warehouse, "behavior", wanted)
    Builder(project.settings, project.warehouse).build("stg_behavior", wanted)


def test_what_came_after_is_described_by_what_a_return_is() -> None:
    """Someone who never fell silent is said to have come back, or days to come are described as over."""
    sentences = []
    for days, counted in ((3, 20), (None, 20), (None, 9)):
        outcome = {
            "returned": days is not None,
            "days_to_return": days,
            "amount": 0.0,
            "window_last": date(2024, 7, 15),
            "counted_until": date(2024, 7, counted),
        }
        story = Story("spring", "spring", date(2024, 7, 1), "sent", outcome=outcome)
        sentences += [outcome_sentence(story), outcome_sentence(replace(story, stays=True))]
    assert sentences == [
        "came back after 3 days, on 2024-07-04",
        "stayed: was active after 3 days, on 2024-07-04",
        "did not come back by 2024-07-15",
        "did not stay: not active by 2024-07-15",
        "has not come back by 2024-07-09; counted until 2024-07-15",
        "has not been active by 2024-07-09; counted until 2024-07-15",
    ]
