"""The compose file: in the form of its specification, with commands, settings and files that exist."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import check_jsonschema.builtin_schemas
import jsonschema
import pytest
import yaml
from commands import DEPLOY, ROOT, check
from sqlalchemy import make_url

from usergrowth_dagster.homes.home import DAGSTER_YAML
from usergrowth_dagster.settings import settings_class
from usergrowth_dagster.settings.databases import DAGSTER, MLFLOW, url_of_schema

OURS = ("home", "code", "webserver", "daemon", "receiver", "dispatcher", "mlflow", "models", "rta")
OTHERS = ("postgres", "objects", "prometheus", "grafana")
CREDENTIALS = ("USERGROWTH_SECRET_KEY", "USERGROWTH_CALLBACK_TOKEN")
"""Names of the environment that are no settings: docs/how-to/gateways.md."""
_VARIABLE = re.compile(r"\$\{(\w+)")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    return document


def lines(name: str) -> dict[str, str]:
    """NAME=value lines of an environment file, commented ones too."""
    text = (DEPLOY / name).read_text("utf-8")
    return dict(re.findall(r"^#?([A-Z_]+)=(.*)$", text, re.MULTILINE))


def test_it_has_the_form_of_the_specification(compose: dict[str, Any]) -> None:
    """Guards against keys that Docker refuses or passes over."""
    schema = check_jsonschema.builtin_schemas.get_builtin_schema("vendor.compose-spec")
    jsonschema.Draft7Validator(schema).validate(compose)
    assert set(compose["services"]) == {*OURS, *OTHERS}


def test_every_service_runs_a_command_that_exists(compose: dict[str, Any]) -> None:
    """Guards against a service that ends with a usage message, and one that is never healthy."""
    for name, service in compose["services"].items():
        if name in OURS:
            check(service["command"])
        healthcheck = service["healthcheck"]
        if name == "home":
            assert healthcheck == {"disable": True} and service["restart"] == "no"
            continue
        kind, *test = healthcheck["test"]
        assert kind == "CMD" and service["restart"] == "unless-stopped", name
        check(test)


def test_our_services_are_locked_down(compose: dict[str, Any]) -> None:
    """Guards against a service that runs as root or may write where it need not."""
    for name in OURS:
        service = compose["services"][name]
        assert service["image"] == "usergrowth" and service["read_only"] is True
        assert service["cap_drop"] == ["ALL"] and "user" not in service
        assert service["security_opt"] == ["no-new-privileges:true"]
    image = (DEPLOY / "Dockerfile").read_text("utf-8")
    last_user = re.findall(r"^USER (\S+)$", image, re.MULTILINE)[-1]
    assert "useradd --uid 10001 --user-group" in image and last_user == "usergrowth"


def test_what_a_home_may_lack_waits_for_its_profile(compose: dict[str, Any]) -> None:
    """Guards against a service that ends again and again in a home without its file."""
    services = compose["services"].items()
    profiles = {name: one["profiles"] for name, one in services if "profiles" in one}
    assert profiles == {
        "prometheus": ["monitoring"],
        "grafana": ["monitoring"],
        "models": ["models"],
        "rta": ["rta"],
    }


def test_nothing_listens_beyond_the_machine(compose: dict[str, Any]) -> None:
    """Guards against a database, a UI without a login, or figures that the world can reach."""
    published = [
        (name, port)
        for name, service in compose["services"].items()
        for port in service.get("ports", [])
    ]
    assert all(port.startswith("127.0.0.1:") for _, port in published), published
    reached = {port.rpartition(":")[2] for _, port in published}
    assert not {"9464", "9465", "9466", "9467", "4000", "5432", "8333"} & reached


def test_every_setting_is_one(compose: dict[str, Any]) -> None:
    """Guards against a setting of an older version, which is passed over in silence."""
    known = {f"USERGROWTH_{name.upper()}" for name in settings_class().model_fields}
    named = {*lines("usergrowth.env.example")}
    for service in compose["services"].values():
        named |= {*service.get("environment", {})}
    named |= set(re.findall(r"USERGROWTH_[A-Z_]+", (DEPLOY / "Dockerfile").read_text("utf-8")))
    ours = {name for name in named if name.startswith("USERGROWTH_")}
    assert ours - known == set(CREDENTIALS)


def test_mlflow_shows_the_schema_that_runs_write_to(compose: dict[str, Any]) -> None:
    """Guards against an MLflow beside that of the product, which stays empty."""
    environment = compose["services"]["mlflow"]["environment"]
    assert environment["USERGROWTH_ONE_DATABASE"] == "true"
    of_product = url_of_schema(
        environment["USERGROWTH_DATABASE_URL"].replace(":?set it in deploy/.env", ""), MLFLOW
    )
    assert make_url(environment["MLFLOW_BACKEND_STORE_URI"]) == make_url(of_product)
    schemas = (DEPLOY / "schemas.sql").read_text("utf-8")
    assert set(re.findall(r"create schema if not exists (\w+);", schemas)) == {MLFLOW, DAGSTER}


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)
    else:
        yield str(value)


def test_every_variable_and_file_is_there(compose: dict[str, Any]) -> None:
    """Guards against a value that is asked for and nowhere described, and a mount of nothing."""
    asked = {name for text in strings(compose) for name in _VARIABLE.findall(text)}
    assert asked - {"SEAWEEDFS_TAG"} == set(lines("compose.env.example"))
    volumes = set(compose["volumes"])
    for name, service in compose["services"].items():
        for mount in service.get("volumes", []):
            source = mount.partition(":")[0]
            there = (DEPLOY / source).exists() if source.startswith(".") else source in volumes
            assert there, (name, mount)
        for env_file in service.get("env_file", []):
            assert (DEPLOY / f"{env_file}.example").exists()
    ignored = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    assert {"deploy/.env", "deploy/usergrowth.env"} <= set(ignored)


def test_the_instance_is_that_of_a_home_but_for_its_log() -> None:
    """Guards against pools, limits and retries that hold in a home and not in containers."""
    home, shared = (
        yaml.safe_load(DAGSTER_YAML),
        yaml.safe_load((DEPLOY / "dagster.yaml").read_text()),
    )
    differs = {key for key in {*home, *shared} if home.get(key) != shared.get(key)}
    assert differs == {"python_logs"}
    workspace = yaml.safe_load((DEPLOY / "workspace.yaml").read_text("utf-8"))
    server = workspace["load_from"][0]["grpc_server"]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    command = compose["services"][server["host"]]["command"]
    assert str(server["port"]) in command and "usergrowth_dagster.definitions" in command


def test_the_image_has_what_the_package_is_built_from() -> None:
    """Guards against an image without the SQL models, and a build that sends all of the checkout."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packed = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        *packed["packages"],
        *packed["force-include"],
        *("pyproject.toml", "requirements.lock"),
        *(project["project"]["readme"], *project["project"]["license-files"]),
    }
    copied = {
        source
        for line in (DEPLOY / "Dockerfile").read_text("utf-8").splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    assert needed <= copied
    let_in = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert {line[1:] for line in let_in if line.startswith("!")} == copied
    extras = re.search(r"usergrowth-dagster\[([\w,]+)\]", (DEPLOY / "Dockerfile").read_text())
    assert extras and set(extras[1].split(",")) <= set(project["project"]["optional-dependencies"])
