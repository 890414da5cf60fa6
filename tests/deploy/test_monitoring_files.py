"""The alerts and the dashboard ask for figures that exist, by labels that they have."""

import json
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from usergrowth_dagster.messaging.dispatching.results import DispatchCounts
from usergrowth_dagster.messaging.operations.backlog import Backlog
from usergrowth_dagster.messaging.receiving.receipts import Taken
from usergrowth_dagster.messaging.receiving.replies import Answered
from usergrowth_dagster.monitoring.backlog_gauges import BacklogGauges
from usergrowth_dagster.monitoring.process_figures import (
    DispatchFigures,
    ReceiverFigures,
    new_registry,
)
from usergrowth_dagster.monitoring.rta_figures import RtaFigures
from usergrowth_dagster.monitoring.scoring_figures import ScoringFigures

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "monitoring"
OF_PROMETHEUS = {"up": {"job", "instance"}}
"""What Prometheus adds to every target."""


def shown() -> CollectorRegistry:
    """All figures, each with a value."""
    registry = new_registry()
    DispatchFigures(registry).after_round(DispatchCounts())
    receiver = ReceiverFigures(registry)
    receiver.answered("file", "dlr", 200)
    receiver.receipts("file", Taken())
    receiver.replies("file", Answered())
    receiver.failed("file")
    receiver.link(302)
    receiver.cut("a reason")
    scoring = ScoringFigures(registry)
    scoring.answered("churn", "eas", 200, 1, 0.001)
    scoring.holds("churn", 1, 0)
    scoring.fell_back("late")
    scoring.shadowed("churn", [0.1])
    scoring.missed("churn")
    rta = RtaFigures(registry)
    rta.answered("tencent", "accept", 0.001)
    rta.holds(date(2024, 1, 1), {"oaid": 1})
    rta.lost(1)
    backlog = Backlog({"planned": 1}, in_doubt={"file": 1}, occurrences={"ready": 1})
    registry.register(BacklogGauges(lambda: backlog))
    return registry


@pytest.fixture(scope="module")
def figures() -> dict[str, set[str]]:
    """Labels by figure."""
    known = {name: set(labels) for name, labels in OF_PROMETHEUS.items()}
    for family in shown().collect():
        for sample in family.samples:
            known.setdefault(sample.name, {"job", "instance"}).update(sample.labels)
    return known


def expressions() -> Iterator[tuple[str, str]]:
    """Every query, with where it stands."""
    for group in yaml.safe_load((FOLDER / "rules.yml").read_text("utf-8"))["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in json.loads((FOLDER / "dashboard.json").read_text("utf-8"))["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def parts(node: Any, grouped: frozenset[str] = frozenset()) -> Iterator[tuple[str, set[str]]]:
    """The figures of a parsed query, each with the labels that the query names."""
    if isinstance(node, promql_parser.AggregateExpr):
        labels = grouped | set(node.modifier.labels if node.modifier else ())
        yield from parts(node.expr, frozenset(labels))
    elif isinstance(node, promql_parser.BinaryExpr):
        yield from parts(node.lhs, grouped)
        yield from parts(node.rhs, grouped)
    elif isinstance(node, promql_parser.Call):
        for argument in node.args:
            yield from parts(argument, grouped)
    elif isinstance(node, promql_parser.MatrixSelector):
        yield from parts(node.vector_selector, grouped)
    elif isinstance(node, promql_parser.VectorSelector):
        yield node.name, {one.name for one in node.matchers.matchers} | grouped
    elif isinstance(node, promql_parser.ParenExpr | promql_parser.SubqueryExpr):
        yield from parts(node.expr, grouped)
    else:
        assert isinstance(node, promql_parser.NumberLiteral), type(node)


def test_every_query_asks_for_a_figure_that_exists(figures: dict[str, set[str]]) -> None:
    """Guards against an alert that never fires and a panel that stays empty after a rename."""
    asked: set[str] = set()
    for place, expression in expressions():
        for name, labels in parts(promql_parser.parse(expression)):
            assert name in figures, (place, name)
            assert labels <= figures[name], (place, name, labels - figures[name])
            asked.add(name)
    ours = {name for name in figures if name.startswith("usergrowth_")}
    unseen = {name for name in ours if not name.endswith("_created")} - asked
    assert not unseen, "figures that no panel and no alert shows"


def test_each_alert_leads_to_what_to_do() -> None:
    """Guards against an alert at night whose page does not exist."""
    guide = (ROOT / "docs" / "how-to" / "incident.md").read_text("utf-8")
    headings = {
        line[3:].lower().replace(" ", "-") for line in guide.splitlines() if line[:3] == "## "
    }
    (group,) = yaml.safe_load((FOLDER / "rules.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]:
        page, _, anchor = rule["annotations"]["action"].partition("#")
        assert page == "how-to/incident.md" and anchor in headings, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_the_page_describes_every_figure(figures: dict[str, set[str]]) -> None:
    """Guards against a figure that no one can look up, and a page about one that is gone."""
    page = (ROOT / "docs" / "how-to" / "monitoring.md").read_text("utf-8")
    table = "\n".join(line for line in page.splitlines() if line.startswith("| `"))
    described = {
        word.partition("{")[0] for word in table.split("`") if word.startswith("usergrowth_")
    }
    ours = {name for name in figures if name.startswith("usergrowth_")}
    of_histograms = re.compile("_(bucket|count|sum)$")
    named = {of_histograms.sub("", name) for name in ours if not name.endswith("_created")}
    assert described == named


def test_prometheus_asks_the_services_of_the_compose_file() -> None:
    """Guards against targets whose ports nobody shows figures at."""
    jobs = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))["services"]
    for job in jobs:
        (target,) = job["static_configs"][0]["targets"]
        service, _, port = target.partition(":")
        command = services[service]["command"]
        assert command[command.index("--metrics-port") + 1] == port, job["job_name"]
        assert command[command.index("--metrics-host") + 1] == "0.0.0.0", job["job_name"]
