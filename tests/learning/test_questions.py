"""The questions: found, named in one place, and light to import."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.problems import campaign_kinds, problem_called, problems
from usergrowth_dagster.learning.targets import target_called
from usergrowth_dagster.warehouse.models import load_graph

PACKAGE = Path(__file__).parents[2] / "usergrowth_dagster"
NAMED_IN = ("learning/problems/", "control/migrations/", "ranks.py")
"""Where a question may be called by its name; ``ranks.py`` has the rank by uplift."""


def test_every_question_has_its_rows_its_labels_and_its_answer() -> None:
    """Guards against a question that is listed and cannot be trained."""
    graph = load_graph()
    for name, problem in problems().items():
        model = graph.models[problem.training_table()]
        assert model.labels and model.inherit, name
        assert set(model.grain) >= {"ds", "user_id"}
        assert ("item_id" in model.grain) == problem.pairs
        assert target_called(problem.target).name == problem.target
        assert graph.chain(model.name)[-1] == model.name


def test_no_module_but_its_own_calls_a_question_by_its_name() -> None:
    """Guards against a question of which a part is written elsewhere, as in eighteen files once."""
    named = re.compile(rf"[\"']({'|'.join(problems())})[\"']")
    literals = [
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if not str(path.relative_to(PACKAGE)).startswith(NAMED_IN)
        for line in path.read_text("utf-8").splitlines()
        if named.search(line) and ">>>" not in line
    ]
    assert literals == []


def test_a_campaign_may_name_the_questions_and_their_other_names() -> None:
    """Guards against a schema for editors that lacks a question, or offers one nobody may name."""
    schema = CampaignSpec.model_json_schema()
    listed = schema["properties"]["algorithm"]["discriminator"]["mapping"]
    assert set(listed) == {name for name, p in problems().items() if p.asked_in_campaigns}
    assert campaign_kinds()["sms_recall"] == "winback"
    assert "uplift" not in campaign_kinds()


def test_a_question_that_is_not_there_is_one_sentence() -> None:
    """Guards against a KeyError where a model's name is misspelled."""
    with pytest.raises(UserError, match="no question is called 'lottery'; there are churn, "):
        problem_called("lottery")
    with pytest.raises(UserError, match="no kind of answer is called 'ordinal'; there are"):
        target_called("ordinal")


def test_questions_are_light_to_import() -> None:
    """Guards against each command waiting for libraries that only a training needs."""
    heavy = ("mlflow", "lightgbm", "sklearn", "pandas", "numpy", "duckdb", "sqlglot")
    code = (
        "import sys, usergrowth_dagster.learning.problems as p; p.problems()\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
