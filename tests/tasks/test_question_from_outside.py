"""A question of a package outside: one Python file and one SQL model with its yml."""

import json
from pathlib import Path

import pytest
from chain_world import (
    D,
    World,
    cli,
    copy_home,
    errors,
    new_cli,
    rows,
    succeeded,
    write_campaign,
    write_people,
)

QUESTION = '''
"""Who comes by within so many days."""

from usergrowth_dagster.learning.problems.base import Days, Problem, Words


class Visit(Problem):
    """Who comes by within so many days."""

    name = "visit"
    words = Words(
        asset="How likely a user is to come by.",
        asks="who comes by in the days to come",
        score="chance of coming by",
        came_true="came by",
    )

    days: Days = 5

    @property
    def horizon_days(self) -> int:
        return self.days

    def label_sql(self) -> str:
        return f"coalesce(days_to_next < {self.days}, false)"
'''
SQL = """
with final as (
    select
        f.*,
        l.days_to_next
    from churn_label as l
    inner join user_features as f on l.ds = f.ds and l.user_id = f.user_id
)

select * from final
"""
YML = """
version: 2
models:
  - name: visit_training
    description: Features and the days to the next behavior.
    config:
      materialized: table
      meta:
        grain: [ds, user_id]
        inherit: [user_features]
        labels: [days_to_next]
    columns:
      - {name: days_to_next, data_type: INTEGER, description: days from ds to the next behavior}
"""
METADATA = "Metadata-Version: 2.1\nName: visits\nVersion: 1.0\n"


@pytest.fixture
def visits(tmp_path: Path) -> dict[str, str]:
    """The environment of a command beside which the package ``visits`` is installed."""
    files = {
        "visits/__init__.py": "",
        "visits/question.py": QUESTION,
        "visits/sql/training/visit_training.sql": SQL,
        "visits/sql/training/visit_training.yml": YML,
        "visits-1.0.dist-info/METADATA": METADATA,
        "visits-1.0.dist-info/entry_points.txt": (
            "[usergrowth.problems]\nvisit = visits.question:Visit\n"
        ),
    }
    root = tmp_path / "site"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return {"PYTHONPATH": str(root)}


def test_a_question_from_outside_trains_scores_decides_and_reports(
    world: World, tmp_path: Path, visits: dict[str, str]
) -> None:
    """A registry that is read in one place, while another one knows its own questions only."""
    home = copy_home(world.decided, tmp_path / "home")
    write_people(home, "spring")
    changes = {"algorithm": "{kind: visit, days: 4}", "selection": "{top_n: 20}"}
    path = str(write_campaign(home, "spring", **changes))
    (refused,) = errors(cli(home, "apply", "-f", path))
    assert "algorithm.kind: must be 'churn'" in refused and "not 'visit'" in refused

    succeeded(new_cli(home, "apply", "-f", path, **visits))
    succeeded(new_cli(home, "review", "template", "spring", **visits))
    succeeded(new_cli(home, "run", "--date", str(D), **visits))
    scored = rows(home, "scores", "task_id = 'spring'", "model_name, score")
    known = [score for name, score in scored if name == "visit" and score is not None]
    assert len(known) > 30 and all(0 < score < 1 for score in known)
    outcomes = rows(home, "decisions", "task_id = 'spring'", "outcome, score, model_name")
    chosen = [score for outcome, score, _ in outcomes if outcome in ("selected", "holdout")]
    passed_over = [score for outcome, score, _ in outcomes if outcome == "not_in_top_n"]
    assert len([o for o, _, _ in outcomes if o == "selected"]) == 20
    assert min(chosen) >= max(passed_over)

    listed = json.loads(succeeded(new_cli(home, "models", "list", "visit", "--json", **visits)))
    assert [(one["name"], one["version"], one["status"]) for one in listed] == [
        ("visit", 1, "approved")
    ]
    card = succeeded(new_cli(home, "models", "show", "visit", "1", **visits))
    assert "Who comes by in the days to come?" in card and "came by" in card
    printed = succeeded(new_cli(home, "why", _chosen_user(home), "--campaign", "spring", **visits))
    assert "chance of coming by" in printed
    replayed = succeeded(new_cli(home, "replay", "spring", **visits))
    assert "equal" in replayed


def _chosen_user(home: Path) -> str:
    users = rows(home, "decisions", "task_id = 'spring' and outcome = 'selected'", "user_id")
    return str(users[0][0])
