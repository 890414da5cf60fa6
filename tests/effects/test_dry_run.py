"""A report of a dry run says so first, and holds no figure that could be taken for an effect."""

import json
import re
from pathlib import Path
from typing import Any

from chain_world import World, copy_home, here, world
from report_effects import BASIS, works

from usergrowth_dagster.control.tasks import task
from usergrowth_dagster.effects.analysis import as_dry_run
from usergrowth_dagster.effects.report.figures import figure_rows
from usergrowth_dagster.effects.report.page import render_json, render_page
from usergrowth_dagster.measure.report import report_task
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings

__all__ = ["here", "world"]


def test_an_effect_becomes_none() -> None:
    """A lift, returns or a profit of people who were never texted is forwarded as a result."""
    effect = as_dry_run(works())
    assert effect.sentence.startswith("Dry run: nobody was texted.")
    page, document = render_page(effect, BASIS), json.loads(render_json(effect, BASIS))
    assert "<h1>Dry run: nobody was texted</h1>" in page
    assert "Returns the texts brought" not in page and "Profit" not in page
    for key in ("contrasts", "arms", "deciles", "daily", "policies"):
        assert document[key] == [], key
    assert document["money"]["profit"] is None and document["cost_in_all"] == 0
    assert "returned" not in document["funnel"]["steps"]
    names = [name for name, *_ in figure_rows(effect)]
    assert not [name for name in names if "lift" in name or "profit" in name or "back" in name]


def test_a_task_that_went_to_the_file_gateway(world: World, tmp_path: Path, here: None) -> None:
    """The default gateway texts nobody, and its report measures the texts all the same."""
    home = copy_home(world.decided, tmp_path / "home")
    documents: dict[bool, dict[str, Any]] = {}
    for simulated in (True, False):
        project = Project(load_settings(home, simulated_people=simulated))
        done = report_task(project, task(project.store, "comeback"))
        documents[simulated] = json.loads(done.data.read_text(encoding="utf-8"))
        assert done.effect.verdict == documents[simulated]["verdict"]
        project.store.close()
    assert documents[True]["verdict"] != "dry_run" and documents[True]["arms"]
    assert documents[False]["verdict"] == "dry_run" and documents[False]["arms"] == []
    sentence = documents[False]["sentence"]
    assert re.match(r"Dry run: nobody was texted\. [1-9]\d* texts were written to files", sentence)
