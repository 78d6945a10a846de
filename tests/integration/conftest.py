# SPDX-License-Identifier: Apache-2.0
"""Needs the project installed with its `lab`, `openstack` and `test` extras, and nvme-cli, whose
host NQN the incumbent asks for at start; no kernel module, no network but loopback."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.cinder.client import CinderClient
from testbed.cinder.service import CinderService
from testbed.cluster import Cluster, free_port, running_lab

StartCinder = Callable[..., CinderService]


@pytest.fixture(scope="session")
def lab_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of the lab cluster."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def lab(lab_dir: Path) -> Iterator[dict[str, Any]]:
    """The content of lab.json of a running three-node cluster."""
    with running_lab(lab_dir) as description:
        yield description


@pytest.fixture(scope="session")
def cluster(lab: dict[str, Any]) -> Cluster:
    return Cluster(lab)


@pytest.fixture(
    scope="session", params=["eventlet", pytest.param("threads", marks=pytest.mark.nightly)]
)
def cinder(
    request: pytest.FixtureRequest,
    lab: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[CinderService]:
    """Our driver in real Cinder, in both of the ways that cinder-volume can run."""
    service = CinderService(
        tmp_path_factory.mktemp("cinder"),
        lab,
        free_port(),
        incumbent=False,
        threading=request.param == "threads",
    )
    with service:
        yield service


@pytest.fixture
def client(cinder: CinderService, cluster: Cluster) -> Iterator[CinderClient]:
    """A client; what the test leaves in Cinder is deleted, and the cluster must be empty then."""
    client = ready_client(cinder)
    yield client
    client.remove_everything()
    assert_nothing_left(cluster)


def ready_client(service: CinderService) -> CinderClient:
    client = CinderClient.of(service)
    client.lift_quotas()
    client.wait_for_pools()
    return client


def assert_nothing_left(cluster: Cluster) -> None:
    assert [volume["name"] for volume in cluster.volumes()] == []
    assert [snapshot["name"] for snapshot in cluster.snapshots()] == []
    assert cluster.get("/policies").get("policies", []) == []


@pytest.fixture
def start_cinder(tmp_path: Path) -> Iterator[StartCinder]:
    """Starts one more Cinder (`config_dir` defaults to a new folder); stopped after the test."""
    started: list[CinderService] = []

    def start(
        lab: dict[str, Any],
        *,
        config_dir: Path = tmp_path / "cinder",
        api_port: int | None = None,
        **options: Any,
    ) -> CinderService:
        service = CinderService(
            config_dir, lab, api_port or free_port(), **{"incumbent": False} | options
        )
        started.append(service.start())
        return service

    yield start
    for service in started:
        service.stop()
