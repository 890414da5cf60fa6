"""A training that has nothing to do shows the model that stands, and not an empty page."""

from pathlib import Path

from chain_world import D, World, copy_home

from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.training.train import train_all


def test_a_date_that_is_sent_shows_its_models(world: World, tmp_path: Path, here: None) -> None:
    """Running a date again replaces the asset's figures and pictures by nothing."""
    from usergrowth_dagster.defs.learning_assets import training_metadata

    project = Project(load_settings(copy_home(world.decided, tmp_path / "home")))
    for algorithm in ("churn", "winback"):
        (known,) = train_all(project, algorithm, D, only_missing=True)  # type: ignore[arg-type]
        assert known.registered is not None and known.registered.reused
        assert known.builds == [] and known.registered.figures
        shown = training_metadata(known)
        assert {"model", "champion", "evaluation", "gates", "model_card"} <= set(shown)
        assert set(known.registered.figures) <= set(shown)
    project.store.close()
