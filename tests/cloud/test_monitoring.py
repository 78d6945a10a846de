# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes the metrics of the driver, of a discovery client and of the lab, and
answers every query of the dashboards and the alert rules. It needs no cloud."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from prometheus_client import CollectorRegistry

from lightos.discovery.desired import Endpoint
from lightos.discovery.status import Status, StatusServer
from lightos.lab.metrics import LabCollector
from lightos.metrics_page import MetricsServer
from lightos.openstack.cinder.metrics import DriverMetrics
from testbed.cloud import packages
from testbed.cluster import free_port
from testbed.polling import wait_until
from tests.unit.test_monitoring import (
    ALERTS,
    CLUSTER_STATUS,
    DASHBOARDS,
    LAB_FIGURES,
    documents,
    expressions,
)

ADDRESS = "127.0.0.1"


@dataclass
class Prometheus:
    port: int
    driver: DriverMetrics

    def ask(self, what: str, **query: str) -> Any:
        url = f"http://{ADDRESS}:{self.port}/api/v1/{what}"
        reply = requests.get(url, params=query, timeout=30)
        assert reply.status_code == 200, (query, reply.text)
        return reply.json()["data"]

    def answer(self, expression: str) -> list[Any]:
        """What a panel of a dashboard shows, while the driver goes on working."""
        self.driver.request_ended("GetVolume", "10.0.0.1", "200", 0.02)
        self.driver.request_ended("GetVolume", "10.0.0.2", "unreachable", 2.0)
        self.driver.asked_again("GetVolume", "unreachable")
        self.driver.waited("CreateVolume", "done", 0.2)
        self.driver.waited("CreateVolume", "timed out", 90.0)
        query = expression.replace("$instance", ".*")
        return list(self.ask("query", query=query)["result"])


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    unpacked = packages.unpacked(packages.MONITORING)
    folder = tmp_path_factory.mktemp("prometheus")
    driver = DriverMetrics()
    driver_port, own_port = free_port(), free_port()
    driver.serve(ADDRESS, driver_port)
    status = Status((CLUSTER_STATUS,), 1, 1, (("live", 1),))
    registry = CollectorRegistry()
    registry.register(LabCollector(lambda: LAB_FIGURES))
    with (
        StatusServer(Endpoint(ADDRESS, 0), lambda: status) as hosts,
        MetricsServer(ADDRESS, 0, registry, server_name="lightos-lab") as lab,
    ):
        jobs = {
            "lightos-cinder": driver_port,
            "lightos-hosts": hosts.port,
            "lightos-lab": lab.port,
        }
        conf = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"{ADDRESS}:{port}"]}]}
                for job, port in jobs.items()
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(conf))
        process = subprocess.Popen(
            [
                unpacked.root / "usr/bin/prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={ADDRESS}:{own_port}",
            ],
            env=unpacked.environment,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: _is_ready(own_port), "Prometheus is ready")
            yield Prometheus(own_port, driver)
        finally:
            process.terminate()
            process.wait()


def _is_ready(port: int) -> bool:
    try:
        return requests.get(f"http://{ADDRESS}:{port}/-/ready", timeout=5).ok
    except requests.ConnectionError:
        return False


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_of_a_dashboard_shows_something(prometheus: Prometheus, path: Path) -> None:
    for panel in documents()[path.name]["panels"]:
        for expression in expressions(panel):
            wait_until(lambda asked=expression: prometheus.answer(asked), panel["title"])


def test_every_alert_rule_is_taken_and_evaluated(prometheus: Prometheus) -> None:
    def rules() -> list[Any]:
        groups = prometheus.ask("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    wait_until(lambda: {rule["health"] for rule in rules()} == {"ok"}, "rules are evaluated")
    known = {
        rule["alert"] for group in documents()[ALERTS.name]["groups"] for rule in group["rules"]
    }
    assert {rule["name"] for rule in rules()} == known


def test_an_alert_comes_when_its_reason_does(prometheus: Prometheus) -> None:
    def active() -> set[str]:
        return {alert["labels"]["alertname"] for alert in prometheus.ask("alerts")["alerts"]}

    prometheus.driver.access_without_attachment(2)
    wanted = {"LightOSAccessWithoutAttachment", "LightOSNoPath", "LightOSBadDiscoveryFile"}
    wait_until(lambda: wanted <= active(), "alerts are active")
    assert "LightOSTokenExpired" not in active()
