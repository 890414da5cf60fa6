"""The code location: light to import, whole, and described for a person."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context

from usergrowth_dagster.acquisition.definition import FILE_NAME as ACQUISITION_FILE
from usergrowth_dagster.defs.build import build_definitions
from usergrowth_dagster.examples.aarrr.devices import POLICY
from usergrowth_dagster.examples.datasets import example
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.stages import STAGES

ROOT = Path(__file__).parents[2]
HEAVY = ("mlflow", "lightgbm", "sklearn", "pandas", "duckdb", "pyarrow", "deltalake", "matplotlib")
GROUPS = {
    "landing": {
        *("population", "own_touches", "raw_user", "raw_item", "raw_behavior", "raw_operation"),
    },
    "staging": {"stg_user", "stg_item", "stg_behavior", "stg_operation"},
    "facts": {"user_day", "user_item_day", "item_category"},
    "features": {"user_features", "user_item_features"},
    "labels": {"churn_label", "winback_label"},
    "training": {
        "churn_training",
        "ltv_training",
        "new_user_purchase_training",
        "purchase_training",
        "spend_training",
        "uplift_training",
        "winback_training",
    },
    "activation": {"new_user_purchase_model"},
    "retention": {"churn_model", "uplift_model", "winback_model"},
    "revenue": {"ltv_model", "purchase_model", "spend_model"},
    "referral": {"sharing_model"},
    "marts": {"daily_activity", "churn_summary"},
    "audience": {"scores", "decisions", "selection_output"},
    "messaging": {"send_batches", "dispatched_messages"},
    "effects": {"effects"},
}
MODELS = set().union(*(GROUPS.get(stage, set()) for stage in STAGES))
NOT_TABLES = {
    *MODELS,
    "selection_output",
    "send_batches",
    "dispatched_messages",
}


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.Definitions]:
    """The definitions of a home that does not exist yet."""
    yield build_definitions(str(tmp_path_factory.mktemp("none") / "home"))


def specs(definitions: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def test_import_is_light(tmp_path: Path) -> None:
    """A heavy library at module level makes every tick of the UI wait for seconds."""
    code = (
        "import sys, usergrowth_dagster.definitions\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []  # and leaves nothing behind


def test_dagster_validates_the_workspace(tmp_path: Path) -> None:
    """A code location that only the tests can load, not the dagster command."""
    done = subprocess.run(
        [
            f"{Path(sys.executable).parent}/dagster",
            "definitions",
            "validate",
            "-w",
            "workspace.yaml",
        ],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "USERGROWTH_HOME": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_assets_and_groups(definitions: dg.Definitions) -> None:
    """An asset that is renamed, lost or in another group breaks schedules and saved backfills."""
    groups: dict[str, set[str]] = {}
    for name, spec in specs(definitions).items():
        groups.setdefault(str(spec.group_name), set()).add(name)
    assert groups == GROUPS


def test_jobs_schedules_sensors(definitions: dg.Definitions) -> None:
    """A job that loses assets, or a sensor that is off, stops the daily chain without a word."""
    repository = definitions.get_repository_def()
    jobs = {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")}
    assert jobs == {
        *(
            "ingest",
            "facts",
            "train",
            "labels",
            "decide",
            "choose",
            "dispatch",
            "measure",
            "maintain",
        )
    }
    schedules = {
        s.name: (s.cron_schedule, s.default_status.value) for s in repository.schedule_defs
    }
    assert schedules == {
        "daily": ("0 6 * * *", "STOPPED"),
        "weekly_training": ("0 5 * * 1", "STOPPED"),
        "dispatch": ("* * * * *", "STOPPED"),
        "measure": ("0 8 * * *", "STOPPED"),
        "weekly_maintenance": ("0 3 * * 0", "STOPPED"),
    }
    sensors = {s.name: s.default_status.value for s in repository.sensor_defs}
    assert sensors == {
        "population_uploads": "RUNNING",
        "decide_after_ingest": "RUNNING",
        "tell_of_failures": "RUNNING",
        "stalled_deliveries": "RUNNING",
    }
    of_job = {
        name: {
            key.to_user_string()
            for key in definitions.resolve_job_def(name).asset_layer.executable_asset_keys
        }
        for name in jobs
    }
    uploads = {"population"}
    assert of_job["ingest"] == (GROUPS["landing"] - uploads) | GROUPS["staging"] | GROUPS[
        "facts"
    ] | {"daily_activity"}
    assert of_job["train"] == MODELS
    assert of_job["decide"] == uploads | (
        GROUPS["features"] | MODELS | GROUPS["audience"] | GROUPS["messaging"]
    )
    assert of_job["choose"] == of_job["decide"] - GROUPS["messaging"]
    assert of_job["measure"] == GROUPS["effects"]
    assert of_job["ingest"] | of_job["train"] | of_job["decide"] | of_job["labels"] | of_job[
        "measure"
    ] == set(specs(definitions))


def test_a_home_with_every_file_is_valid(tmp_path: Path) -> None:
    """Guards against a job with the name of an asset, which Dagster refuses only when it looks at
    all jobs: a home with a segment could not be validated.
    """
    home = make_home(tmp_path / "home", {}).home
    for name, text in {**example("synthetic", 100).home_files, ACQUISITION_FILE: POLICY}.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(text, encoding="utf-8")
    definitions = build_definitions(str(home))
    jobs = {job.name for job in definitions.get_repository_def().get_all_jobs()}
    assert {"refresh_segments", "recommend", "acquisition"} <= jobs
    assert not jobs & set(specs(definitions))


def test_every_asset_is_described(definitions: dg.Definitions) -> None:
    """An asset without owner, kinds, description or schema cannot be understood in the UI."""
    for name, spec in specs(definitions).items():
        assert spec.description and len(spec.description) > 20, name
        assert list(spec.owners) == ["team:growth"], name
        assert spec.kinds, name
        schema = spec.metadata.get("dagster/column_schema")
        assert (schema is None) == (name in NOT_TABLES), name
        if schema is not None:
            columns = schema.schema.columns if hasattr(schema, "schema") else schema.columns
            assert len(columns) >= 3, name
            assert all(column.type for column in columns), name
            bare = [column.name for column in columns if not column.description]
            assert not bare, (name, bare)


def test_one_axis_with_today(definitions: dg.Definitions) -> None:
    """Today's execution date is no partition, or an asset has partitions of its own."""
    settings = load_settings("/nonexistent")
    for name, spec in specs(definitions).items():
        partitions = spec.partitions_def
        assert isinstance(partitions, dg.DailyPartitionsDefinition), name
        assert partitions.end_offset == 1, name
        assert partitions.timezone == settings.timezone
        now = datetime(2026, 3, 29, 0, 30, tzinfo=settings.zone)
        with partition_loading_context(effective_dt=now):
            assert partitions.get_last_partition_key() == "2026-03-29", name
            assert partitions.get_first_partition_key() == settings.start_date.isoformat()


def test_upstreams_point_left(definitions: dg.Definitions) -> None:
    """A dependency drawn backwards, or lost, makes the graph unreadable and backfills wrong."""
    order = [
        *("landing", "staging", "facts", "features", "labels", "training", *STAGES),
        *("audience", "messaging", "effects", "marts"),
    ]
    place = {name: order.index(group) for group, names in GROUPS.items() for name in names}
    for name, spec in specs(definitions).items():
        for dep in spec.deps:
            upstream = dep.asset_key.to_user_string()
            assert place[upstream] <= place[name], (upstream, name)
    deps = {
        name: {dep.asset_key.to_user_string() for dep in spec.deps}
        for name, spec in specs(definitions).items()
    }
    assert deps["scores"] == {
        "population",
        "user_features",
        "user_item_features",
        *MODELS,
    }
    assert deps["raw_user"] == deps["population"] == set()


def test_bad_settings_are_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong setting shows as a pydantic traceback instead of its name and rule."""
    from usergrowth_dagster.errors import UserError

    monkeypatch.setenv("USERGROWTH_CHURN_DAYS", "900")
    with pytest.raises(UserError, match="setting 'churn_days'"):
        build_definitions(str(tmp_path))
    monkeypatch.delenv("USERGROWTH_CHURN_DAYS")
    assert load_settings(tmp_path, today=date(2017, 5, 1)).current_date() == date(2017, 5, 1)
