"""`usergrowth what-if` on a decided task: what it asks, what it refuses, and what it never shows."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from chain_world import PHONE, D, World, cli, copy_home, errors, rows, succeeded

from usergrowth_dagster.audience.policy import Money
from usergrowth_dagster.control.tasks import task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.measure.effects import measure
from usergrowth_dagster.measure.policies import Question, ask, policy_asked
from usergrowth_dagster.pipeline.decide import read_decision
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.build import Builder
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.landing import land_days


def live_on(home: Path, days: int) -> None:
    """So many days after D on which people do what they did so many days before it."""
    project, folder = Project(load_settings(home)), home / "landing" / "behavior"
    wanted = [D + timedelta(days=n) for n in range(1, days + 1)]
    for day in wanted:
        target = folder / f"ds={day:%Y%m%d}"
        target.mkdir(exist_ok=True)
        source = folder / f"ds={day - timedelta(days=days + 1):%Y%m%d}"
        for path in source.glob("*.csv"):
            (target / path.name).write_bytes(path.read_bytes())
    land_days(project.settings, project.landing, project.warehouse, "behavior", wanted)
    Builder(project.settings, project.warehouse).build("stg_behavior", wanted)


def test_what_if(world: World, tmp_path: Path) -> None:
    """An answer comes before the window has closed, or without any ground, or is a traceback."""
    home = copy_home(world.decided, tmp_path / "home")
    page = succeeded(cli(home, "what-if", "comeback", "--threshold", "0.5"))
    assert "as it was decided (score above 0.3)" in page and "score above 0.5" in page
    assert "No answer for" in page and "before the end of the window" in page
    assert errors(cli(home, "what-if", "comeback", "--threshold", "0.5", "--top-n", "3")) == [
        "error: what-if: give one of --threshold, --top-n, --budget and --money "
        "(--money may have a --budget)"
    ]
    assert "effect.value_per_return" in errors(cli(home, "what-if", "comeback", "--money"))[0]
    assert "no task is called 'no'" in errors(cli(home, "what-if", "no", "--top-n", "3"))[0]
    assert "threshold" in errors(cli(home, "what-if", "comeback", "--threshold", "1.5"))[0]

    live_on(home, 14)
    project = Project(load_settings(home))
    the_task = task(project.store, "comeback")
    effect = measure(project, the_task)
    assert effect.complete
    with open_engine(project.settings) as engine:
        used = read_decision(engine, project, the_task).policy
    assert used.policy_hash == effect_hash(home)
    names = [value.policy for value in effect.policies]
    assert names[0].startswith("as it was decided") and names[-1] == "nobody"
    answers = {
        one.value.policy: one for one in ask(project, the_task, effect, Question(threshold=0.1))
    }
    lower = answers["score above 0.1"]
    assert "had no chance of being texted" in str(lower.value.refused)
    assert lower.value.returns is None and lower.value.texted > 0
    text = succeeded(cli(home, "what-if", "comeback", "--top-n", "25", "--json"))
    assert [one["value"]["texted"] for one in json.loads(text)][1:] == [25.0, 0.0]
    assert not PHONE.findall(page.encode()) and "+999" not in text
    assert "u00000" not in page + text
    profits_follow_the_value(home, project)


def profits_follow_the_value(home: Path, project: Project) -> None:
    """--value 0 means the campaign's worth, or profit is reckoned by another worth than is asked."""
    for value in ("0", "-2", "nan"):
        sentences = errors(cli(home, "what-if", "comeback", "--money", "--value", value))
        assert sentences == [f"error: what-if: --value must be above 0, not {value}"]
    page = succeeded(cli(home, "what-if", "comeback", "--value", "3", "--top-n", "25"))
    assert "A return is taken to be worth 3 " in page and "profit" in page
    the_task = task(project.store, "comeback")
    spec = the_task.spec.model_copy(
        update={"effect": the_task.spec.effect.model_copy(update={"value_per_return": 5.0})}
    )
    valued = replace(the_task, spec=spec)
    policy = policy_asked(valued, Question(money=True, value=0.5))
    assert isinstance(policy, Money) and policy.value_per_return == 0.5
    policy = policy_asked(valued, Question(money=True))
    assert isinstance(policy, Money) and policy.value_per_return == 5.0
    with pytest.raises(UserError, match="--value must be above 0"):
        policy_asked(valued, Question(money=True, value=0.0))
    effect = measure(project, valued)
    for value, worth in ((0.5, 0.5), (None, 5.0)):
        for one in ask(project, valued, effect, Question(top_n=25, value=value)):
            if one.value.profit is None or one.value.returns is None:
                continue
            expected = worth * one.value.returns.value - one.value.cost
            assert one.value.profit.value == pytest.approx(expected)


def effect_hash(home: Path) -> str:
    return str(rows(home, "decisions", "task_id = 'comeback'", "distinct policy_hash")[0][0])
