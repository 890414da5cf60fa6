"""Home folders: their settings file, Dagster's folder, and making a new one."""

import os
import re
import secrets
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import CONFIG_NAME, Settings, load_settings
from usergrowth_dagster.settings.places import keep_private

DAGSTER_YAML = """\
# Written by usergrowth; edits are kept.
storage:
  custom:
    module: usergrowth_dagster.defs.home_storage
    class: HomeStorage
    config:
      base_dir:
        env: DAGSTER_HOME
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  pools:
    default_limit: 1
  runs:
    tag_concurrency_limits:
      # Two runs of one execution date would do the same work twice.
      - key: dagster/partition
        value:
          applyLimitPerUniqueValue: true
        limit: 1
run_monitoring:
  enabled: true
  free_slots_after_run_end_seconds: 60
run_retries:
  enabled: true
  max_retries: 1
  retry_on_asset_or_op_failure: false
"""

_FIXED_FOLDER = re.compile(
    r"^event_log_storage:\n  module: usergrowth_dagster\.defs\.event_log\n"
    r"  class: BatchingSqliteEventLogStorage\n  config:\n    base_dir: .*/history/runs\n",
    re.MULTILINE,
)
"""What earlier versions wrote: in a copied home it names the folder of the original."""

BATCH_EVENTS = 500
"""Events that Dagster writes down in one transaction."""

HEADER = """\
# Settings of this home folder. An environment variable USERGROWTH_<NAME> wins over a line here.
# All names, units and defaults: usergrowth_dagster/settings/.
"""


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def prepare_dagster(home: Path) -> Path:
    """Make Dagster's folder of a home and point this process at it."""
    keep_private()
    folder = home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "dagster.yaml"
    if not config.exists():
        config.write_text(DAGSTER_YAML, encoding="utf-8")
    else:
        _name_no_folder(config)
    os.environ["DAGSTER_HOME"] = str(folder)
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(BATCH_EVENTS))
    os.environ["USERGROWTH_HOME"] = str(home)
    return folder


def _name_no_folder(config: Path) -> None:
    """Take the absolute folder out of a dagster.yaml of an earlier version; edits are kept."""
    text = config.read_text(encoding="utf-8")
    block = DAGSTER_YAML[DAGSTER_YAML.index("storage:") : DAGSTER_YAML.index("telemetry:")]
    mended = _FIXED_FOLDER.sub(block, text)
    if mended != text:
        draft = config.with_name(f".{config.name}.{secrets.token_hex(8)}")
        draft.write_text(mended, encoding="utf-8")
        draft.replace(config)


def write_settings(home: Path, values: Mapping[str, Any]) -> Path:
    """Write the settings file of a home that has none.

    Raises:
        UserError: there is one already, with other settings.
    """
    path = home / CONFIG_NAME
    lines = [f"{name} = {_toml_value(value)}" for name, value in values.items()]
    text = HEADER + "\n".join(lines) + "\n"
    if path.exists():
        if not _same_settings(path, text):
            raise UserError(
                f"{path}: this home has other settings already; choose another home folder "
                "(USERGROWTH_HOME or --home), or edit the file",
                code="home.exists",
            )
        return path
    home.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _same_settings(path: Path, text: str) -> bool:
    """Whether a settings file says the same as a text, whatever its comments and order."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")) == tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}", code="file.unreadable") from None


def require_home(settings: Settings) -> None:
    """Refuse a home folder that has not been made.

    Raises:
        UserError: there is no such folder.
    """
    if not settings.home.is_dir():
        raise UserError(
            f"{settings.home}: no home folder; make one with usergrowth init", code="home.missing"
        )


def open_home(home: Path | None) -> Settings:
    """The settings of a home that has been initialized, with Dagster's folder ready.

    Raises:
        UserError: there is no such home yet, or a newer version has migrated its database.
    """
    from usergrowth_dagster.control.store import refuse_newer

    settings = load_settings(home)
    require_home(settings)
    refuse_newer(settings)
    prepare_dagster(settings.home)
    return settings


def make_home(home: Path | None, values: Mapping[str, Any]) -> Settings:
    """Make a home folder: settings, landing folders, control store, Dagster's folder.

    Raises:
        UserError: a value is out of its range, or the home has other settings already.
    """
    root = load_settings(home).home if home is None else home.absolute()
    load_settings(root, **values)  # a bad value must not be written
    keep_private()
    fresh = not (root / CONFIG_NAME).exists()
    write_settings(root, values)
    if fresh:
        root.chmod(0o700)
    settings = load_settings(root)
    prepare_dagster(root)
    if "://" not in settings.landing_root:
        for folder in ("user", "item", "behavior", "operation", "population"):
            (Path(settings.landing_root) / folder).mkdir(parents=True, exist_ok=True)
    from usergrowth_dagster.project import Project

    _ = Project(settings).store
    return settings
