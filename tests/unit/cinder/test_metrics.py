# SPDX-License-Identifier: Apache-2.0
"""What Prometheus is told of the driver: a lab cluster with faults, the real driver, HTTP."""

from __future__ import annotations

import math
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from cinder import exception
from prometheus_client.parser import text_string_to_metric_families

from lightos.openstack.cinder.driver import LightOSVolumeDriver
from testbed.cluster import connector, free_port, sensitive_words
from testbed.faults import Faults
from tests.unit.cinder.conftest import new_volume, record_attachment, reserve_attachment, store

HOST = connector("compute1", number=1)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def served(make_driver: Callable[..., LightOSVolumeDriver], port: int) -> LightOSVolumeDriver:
    return make_driver(lightos_metrics_port=port)


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
        return str(reply.read().decode())


def samples(port: int, name: str, **labels: str) -> list[float]:
    """Values of the samples of this name that have these labels."""
    families = text_string_to_metric_families(scrape(port))
    return [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


def test_requests_are_told_by_operation_address_and_code(
    served: LightOSVolumeDriver, port: int, lab: dict[str, Any]
) -> None:
    served.create_volume(new_volume())
    address = lab["api_addresses"][0]
    where = {"operation": "CreateVolume", "address": address, "code": "200"}
    assert samples(port, "lightos_api_request_seconds_count", **where) == [1]
    assert samples(port, "lightos_api_request_seconds_sum", **where)[0] > 0
    waited = {"operation": "CreateVolume", "outcome": "done"}
    assert samples(port, "lightos_state_wait_seconds_count", **waited) == [1]
    assert samples(port, "lightos_api_retries_total") == []


def test_what_is_asked_again_is_told_with_what_came_before(
    served: LightOSVolumeDriver, port: int, faults: Faults
) -> None:
    faults.add(operation="CreateVolume", status=503, count=2)
    served.create_volume(new_volume())
    again = {"operation": "CreateVolume", "after": "503"}
    assert sum(samples(port, "lightos_api_retries_total", **again)) == 2
    faults.add(operation="CreateVolume", lose_reply=True, count=1)
    served.create_volume(new_volume())
    # At any of the cluster's addresses.
    count = "lightos_api_request_seconds_count"
    for code, number in (("503", 2), ("reply lost", 1), ("200", 1)):
        assert sum(samples(port, count, operation="CreateVolume", code=code)) == number


def test_an_address_that_is_not_there(
    make_driver: Callable[..., LightOSVolumeDriver], port: int, lab: dict[str, Any]
) -> None:
    dead = lab["api_addresses"][0].rpartition(".")[0] + ".250"
    make_driver(lightos_metrics_port=port, lightos_api_address=[dead, lab["api_addresses"][0]])
    labels = {"address": dead, "code": "unreachable"}
    assert samples(port, "lightos_api_request_seconds_count", **labels) == [1]
    assert samples(port, "lightos_api_retries_total", after="unreachable") == [1]


def test_a_wait_that_fails(served: LightOSVolumeDriver, port: int, faults: Faults) -> None:
    faults.add(operation="CreateVolume", end="Failed", count=1)
    with pytest.raises(exception.VolumeBackendAPIException):
        served.create_volume(new_volume())
    failed = {"operation": "CreateVolume", "outcome": "failed"}
    assert samples(port, "lightos_state_wait_seconds_count", **failed) == [1]


def test_days_that_the_token_has_left_and_nothing_of_the_token(
    served: LightOSVolumeDriver, port: int, lab: dict[str, Any]
) -> None:
    assert samples(port, "lightos_token_days_left") == [364]
    text = scrape(port)
    assert not [word for word in sensitive_words(lab) if word in text]


def test_hosts_with_access_that_no_attachment_shows(
    make_driver: Callable[..., LightOSVolumeDriver], port: int
) -> None:
    # A back end of its own, that has no volumes of other tests.
    served = make_driver(lightos_metrics_port=port, cluster_name="measured@lightos")
    name = "lightos_access_without_attachment"
    assert math.isnan(samples(port, name)[0])
    volume = new_volume()
    volume.update(served.create_volume(volume))
    in_cluster = {"cluster_name": "measured@lightos#lightos"}
    store(volume, status="attaching", attach_status="detached", **in_cluster)
    attachment = reserve_attachment(volume)
    served.initialize_connection(volume, HOST)
    served._housekeeping.look()
    assert samples(port, name) == [1]
    record_attachment(volume, HOST, attachment)
    served._housekeeping.look()
    assert samples(port, name) == [0]


def test_without_the_option_nobody_listens(
    make_driver: Callable[..., LightOSVolumeDriver], port: int
) -> None:
    make_driver()
    with pytest.raises(OSError, match="refused"):
        scrape(port)


def test_a_port_that_is_taken_is_told_with_the_option(
    served: LightOSVolumeDriver, make_driver: Callable[..., LightOSVolumeDriver], port: int
) -> None:
    served.do_setup(None)  # as Cinder does again after a start that failed
    with pytest.raises(exception.InvalidConfigurationValue, match="lightos_metrics_port"):
        make_driver(lightos_metrics_port=port)
