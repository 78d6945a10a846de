# SPDX-License-Identifier: Apache-2.0
"""Prometheus' page of a real cinder-volume, in both of its ways to run a driver."""

from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from testbed.cluster import free_port
from testbed.polling import wait_until
from tests.integration.conftest import StartCinder


def scrape(port: int) -> dict[str, list[Any]]:
    """Samples by name."""
    reply = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=30)
    assert reply.status_code == 200
    found: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(reply.text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


@pytest.mark.parametrize("threading", [False, True], ids=["eventlet", "threads"])
def test_cinder_volume_serves_what_its_driver_does(
    lab: dict[str, Any], start_cinder: StartCinder, threading: bool
) -> None:
    port = free_port()
    service = start_cinder(lab, lightos={"lightos_metrics_port": port}, threading=threading)
    service.wait_ready()
    found = scrape(port)
    asked = {
        sample.labels["operation"]: sample.value
        for sample in found["lightos_api_request_seconds_count"]
        if sample.labels["code"] == "200"
    }
    assert asked["GetClusterInfo"] >= 1
    assert asked["GetCluster"] >= 1
    assert [sample.value for sample in found["lightos_token_days_left"]] == [364]

    def access() -> list[float]:
        return [sample.value for sample in scrape(port)["lightos_access_without_attachment"]]

    wait_until(lambda: access() == [0], "a look at access", timeout_seconds=120)
