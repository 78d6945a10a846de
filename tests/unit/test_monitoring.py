# SPDX-License-Identifier: Apache-2.0
"""Dashboards and alert rules ask for metrics and labels that there are, and no others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from lightos.discovery.desired import Cluster, ControllerPath, Endpoint
from lightos.discovery.status import ClusterStatus, Status, StatusCollector
from lightos.lab.metrics import LabCollector, LabFigures, NodeFigures
from lightos.openstack.cinder.metrics import DriverMetrics

MONITORING = Path(__file__).parents[2] / "monitoring"
DASHBOARDS = sorted((MONITORING / "grafana").glob("*.json"))
ALERTS = MONITORING / "prometheus" / "alerts.yaml"
BY_PROMETHEUS = {"instance"}

_PATH = ControllerPath(Cluster("nqn.host", "nqn.subsystem"), Endpoint("192.168.75.11", 4420))
_SERVICE = Endpoint("192.168.75.11", 8009)
CLUSTER_STATUS = ClusterStatus(_PATH.cluster, (_SERVICE,), _SERVICE, 1, frozenset({_PATH}))
"""One cluster of a host, with a path that it wants and lacks."""

LAB_FIGURES = LabFigures(
    replies={("GetVolume", "200"): 3},
    nodes={"node1": NodeFigures("Active", 1, 2)},
    volumes={("Available", "FullyProtected"): 1},
)
"""A lab of one node, with a volume and a host."""

_METRIC = re.compile(r"\b(?:lightos|discovery)_[a-z_]+")
_MATCHED = re.compile(r"\b((?:lightos|discovery)_[a-z_]+)\{([^}]*)\}")
_LABEL = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)")
_BY = re.compile(r"\bby \(([^)]*)\)")


def exposed() -> dict[str, set[str]]:
    """Names of samples, with their labels, when everything has happened once."""
    driver = DriverMetrics()
    driver.request_ended("GetVolume", "192.168.67.78", "200", 0.01)
    driver.asked_again("GetVolume", "503")
    driver.waited("CreateVolume", "done", 0.1)
    hosts = CollectorRegistry()
    hosts.register(StatusCollector(lambda: Status((CLUSTER_STATUS,), 1, 0, (("live", 1),))))
    found: dict[str, set[str]] = {}
    lab = CollectorRegistry()
    lab.register(LabCollector(lambda: LAB_FIGURES))
    for registry in (driver.registry, hosts, lab):
        for family in text_string_to_metric_families(generate_latest(registry).decode()):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions(node: Any) -> Iterator[str]:
    """Every PromQL expression of a dashboard or of rules."""
    if isinstance(node, dict):
        yield from (node[key] for key in ("expr", "query") if isinstance(node.get(key), str))
        for value in node.values():
            yield from expressions(value)
    elif isinstance(node, list):
        for value in node:
            yield from expressions(value)


def documents() -> dict[str, Any]:
    read = {path.name: json.loads(path.read_text()) for path in DASHBOARDS}
    return read | {ALERTS.name: yaml.safe_load(ALERTS.read_text())}


@pytest.mark.parametrize("name", documents())
def test_each_metric_and_label_is_one_that_is_exposed(name: str) -> None:
    known = exposed()
    asked = [each for each in expressions(documents()[name]) if each != "prometheus"]
    assert len(asked) > 5
    for expression in asked:
        metrics = set(_METRIC.findall(expression))
        assert metrics, expression
        assert metrics <= known.keys(), expression
        for metric, matchers in _MATCHED.findall(expression):
            assert set(_LABEL.findall(matchers)) <= known[metric] | BY_PROMETHEUS, expression
        for labels in _BY.findall(expression):
            wanted = {label.strip() for label in labels.split(",")}
            assert all(wanted <= known[metric] | BY_PROMETHEUS for metric in metrics), expression
        assert expression.count("(") == expression.count(")")


def test_every_metric_is_on_a_dashboard() -> None:
    text = "".join(path.read_text() for path in DASHBOARDS)
    shown = set(_METRIC.findall(text))
    families = {re.sub(r"_(?:bucket|count|sum|created)$", "", name) for name in exposed()}
    families -= {"discovery_connections_total", "discovery_log_page"} | {
        name for name in families if name.endswith("_created")
    }
    missing = {f for f in families if not any(name.startswith(f) for name in shown)}
    assert missing == set()


def test_what_an_alert_says_of_its_labels_is_there() -> None:
    known = exposed()
    for group in documents()[ALERTS.name]["groups"]:
        for rule in group["rules"]:
            metrics = _METRIC.findall(rule["expr"])
            named = set(re.findall(r"\$labels\.([a-z_]+)", json.dumps(rule["annotations"])))
            assert all(named <= known[metric] | BY_PROMETHEUS for metric in metrics), rule
            assert rule["labels"]["severity"] in ("warning", "critical")


def test_panels_do_not_overlap() -> None:
    for path in DASHBOARDS:
        cells: set[tuple[int, int]] = set()
        for panel in json.loads(path.read_text())["panels"]:
            place = panel["gridPos"]
            own = {
                (place["x"] + right, place["y"] + down)
                for right in range(place["w"])
                for down in range(place["h"])
            }
            assert not own & cells, panel["title"]
            assert place["x"] + place["w"] <= 24
            cells |= own
