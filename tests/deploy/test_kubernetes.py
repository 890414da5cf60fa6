"""The Helm values and manifests, held against the models of Dagster and Kubernetes."""

import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from commands import DEPLOY, ROOT, check
from dagster._config import process_config
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict
from kubernetes import client

from usergrowth_dagster.defs.build import build_definitions
from usergrowth_dagster.homes.home import DAGSTER_YAML
from usergrowth_dagster.settings import Settings

KINDS = {
    "PersistentVolumeClaim": client.V1PersistentVolumeClaim,
    "Deployment": client.V1Deployment,
    "Service": client.V1Service,
    "NetworkPolicy": client.V1NetworkPolicy,
}
PARTS = {
    *("dagsterWebserver", "dagsterDaemon", "dagster-user-deployments", "runLauncher"),
    *("postgresql", "generatePostgresqlPasswordSecret", "global", "pythonLogs", "concurrency"),
    *("additionalInstanceConfig", "telemetry", "rabbitmq", "redis"),
}
"""Parts of the chart's values that are used."""
SECRETS = {"usergrowth", "usergrowth-postgresql"}
MANIFESTS = ("manifests.yaml", "models.yaml", "rta.yaml")
OPEN = {"receiver": (8321, 9464), "models": (8092, 9466), "rta": (8093, 9467)}
"""Ports of the processes that are asked, and of their figures."""


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "helm" / "values.yaml").read_text("utf-8"))
    return document


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    texts = ((DEPLOY / "helm" / name).read_text("utf-8") for name in MANIFESTS)
    return [document for text in texts for document in yaml.safe_load_all(text)]


def snake(value: Any, *, keep: tuple[str, ...] = ()) -> Any:
    """camelCase keys as snake_case, as the chart writes them into a dagster.yaml."""
    if isinstance(value, dict):
        return {
            re.sub(r"(?<!^)([A-Z])", r"_\1", key).lower(): snake(one) for key, one in value.items()
        }
    return value


def manifest_model(document: dict[str, Any]) -> Any:
    """The Kubernetes model of a manifest, every key of which must be known."""
    model = KINDS[document["kind"]]
    return k8s_model_from_dict(model, k8s_snake_case_dict(model, document))


def test_the_manifests_are_what_kubernetes_knows(manifests: list[dict[str, Any]]) -> None:
    """Guards against a misspelt key that a cluster refuses, and a deployment that selects no pod."""
    for document in manifests:
        manifest_model(document)
        if document["kind"] != "Deployment":
            continue
        spec = document["spec"]
        labels = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"] == labels
        pod = spec["template"]["spec"]
        (container,) = pod["containers"]
        check(container["args"])
        assert container["securityContext"]["runAsUser"] == 10001
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert pod["enableServiceLinks"] is False
        ports = {one["name"]: str(one["containerPort"]) for one in container["ports"]}
        assert set(ports.values()) <= set(container["args"])
        volumes = {one["name"] for one in pod["volumes"]}
        assert {one["name"] for one in container["volumeMounts"]} == volumes
        assert {one["secretRef"]["name"] for one in container["envFrom"]} <= SECRETS
        scraped = spec["template"]["metadata"]["annotations"]["prometheus.io/port"]
        assert scraped == ports["metrics"]


def test_figures_are_no_service(manifests: list[dict[str, Any]]) -> None:
    """Guards against figures that an ingress could publish, and a policy of other pods or ports."""
    by_kind = {
        kind: {one["metadata"]["name"]: one["spec"] for one in manifests if one["kind"] == kind}
        for kind in KINDS
    }
    names = {f"usergrowth-{name}" for name in OPEN}
    assert set(by_kind["Service"]) == set(by_kind["NetworkPolicy"]) == names
    for name, (port, figures) in OPEN.items():
        app = {"app": f"usergrowth-{name}"}
        service, policy = (by_kind[kind][app["app"]] for kind in ("Service", "NetworkPolicy"))
        assert service["selector"] == policy["podSelector"]["matchLabels"] == app
        assert [(one["port"], one["targetPort"]) for one in service["ports"]] == [(port, "http")]
        open_to_all, to_monitoring = policy["ingress"]
        assert [one["port"] for one in open_to_all["ports"]] == [port] and "from" not in open_to_all
        assert [one["port"] for one in to_monitoring["ports"]] == [figures]
        assert to_monitoring["from"]
        (container,) = by_kind["Deployment"][app["app"]]["template"]["spec"]["containers"]
        listens = {one["name"]: one["containerPort"] for one in container["ports"]}
        assert listens == {"http": port, "metrics": figures}


def test_the_run_launcher_takes_its_values(values: dict[str, Any]) -> None:
    """Guards against runs that no pod is made for: keys that Dagster's launcher does not know."""
    assert set(values) == PARTS
    launcher = values["runLauncher"]
    assert launcher["type"] == "K8sRunLauncher"
    given = snake(launcher["config"]["k8sRunLauncher"])
    instance = {"instance_config_map": "i", "postgres_password_secret": "p", "dagster_home": "/d"}
    schema = dg.Field(K8sRunLauncher.config_type()).config_type
    checked = process_config(schema, {**given, **instance, "service_account_name": "s"})
    assert checked.success, checked.errors


def test_the_instance_takes_its_values(values: dict[str, Any], tmp_path: Path) -> None:
    """Guards against an instance that does not start, since Dagster refuses a pair of its parts."""
    daemon, limits = values["dagsterDaemon"], values["concurrency"]
    assert "runCoordinator" not in daemon and daemon["runRetries"] == {"enabled": False}
    written = {
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": "QueuedRunCoordinator",
        },
        "run_monitoring": snake(daemon["runMonitoring"]),
        "concurrency": snake({"pools": limits["pools"]})
        | {
            "runs": {
                "max_concurrent_runs": limits["runs"]["maxConcurrentRuns"],
                "tag_concurrency_limits": limits["runs"]["tagConcurrencyLimits"],
            }
        },
        **values["additionalInstanceConfig"],
    }
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        config = instance.get_concurrency_config()
        assert config.pool_config.default_pool_limit == 1
        assert config.run_queue_config is not None
        assert config.run_queue_config.max_concurrent_runs == 8
    home = yaml.safe_load(DAGSTER_YAML)
    assert written["run_retries"] == home["run_retries"]
    limit = home["concurrency"]["runs"]["tag_concurrency_limits"]
    assert limits["runs"]["tagConcurrencyLimits"] == limit


def test_pods_of_runs_are_made_as_the_code_location_says(values: dict[str, Any]) -> None:
    """Guards against runs without the home, the settings, the secret or a limit of memory."""
    (code,) = values["dagster-user-deployments"]["deployments"]
    assert code["includeConfigInLaunchedRuns"] == {"enabled": True}
    check(["dagster", "api", "grpc", *code["dagsterApiGrpcArgs"]])
    context = K8sContainerContext.create_from_config(
        {
            "k8s": {
                "env": code["env"],
                "env_secrets": [one["name"] for one in code["envSecrets"]],
                "volumes": code["volumes"],
                "volume_mounts": code["volumeMounts"],
                "resources": code["resources"],
                "security_context": code["securityContext"],
            }
        }
    )
    assert {one["name"] for one in context.run_k8s_config.pod_spec_config["volumes"]} == {
        one["name"] for one in code["volumeMounts"]
    }
    names = {one["name"]: one["value"] for one in code["env"]}
    assert names["USERGROWTH_EXECUTOR"] == "kubernetes"
    settings = {f"USERGROWTH_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in names if name.startswith("USERGROWTH_")} <= settings


def test_the_versions_are_those_of_the_lock(values: dict[str, Any]) -> None:
    """Guards against a chart of another version than the program in its pods."""
    locked = re.search(r"^dagster==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    text = (DEPLOY / "helm" / "values.yaml").read_text("utf-8")
    assert locked and re.findall(r"--version (\S+)", text) == [locked[1]]
    assert values["postgresql"]["postgresqlScheme"] == "postgresql+psycopg2"
    texts = [(DEPLOY / "helm" / name).read_text("utf-8") for name in MANIFESTS]
    images = re.findall(r"image: usergrowth:(\S+)", "".join(texts))
    assert set(images) == {values["dagsterWebserver"]["image"]["tag"]}


def test_the_setting_puts_every_step_into_a_pod(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against jobs that keep the processes of one machine whatever the setting says."""
    monkeypatch.setenv("USERGROWTH_EXECUTOR", "kubernetes")
    definitions = build_definitions(str(settings.home))
    jobs = [definitions.resolve_job_def(name) for name in ("ingest", "decide", "train", "dispatch")]
    jobs.append(definitions.resolve_implicit_global_asset_job_def())
    assert {job.executor_def.name for job in jobs} == {"k8s"}
    monkeypatch.delenv("USERGROWTH_EXECUTOR")
    usual = build_definitions(str(settings.home)).resolve_job_def("decide")
    assert usual.executor_def.name == "multiprocess"
