"""Puts the code location together."""

import warnings

import dagster as dg

from usergrowth_dagster.defs.landing_assets import landing_assets
from usergrowth_dagster.defs.model_assets import model_assets
from usergrowth_dagster.defs.partitions import daily_partitions
from usergrowth_dagster.defs.resources import ProjectResource
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.models import load_graph


def build_definitions(home: str = "") -> dg.Definitions:
    """The definitions for a home folder; empty: that of the environment."""
    # Backfill policies and asset checks are marked beta; the pinned version is tested with them.
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    settings = load_settings(home or None)
    graph = load_graph()
    partitions = daily_partitions(settings)
    return dg.Definitions(
        assets=[*landing_assets(partitions), *model_assets(graph, partitions, settings)],
        resources={"project": ProjectResource(home=home)},
    )
