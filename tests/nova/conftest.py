# SPDX-License-Identifier: Apache-2.0
"""Needs root, and what `tools/install cloud` installs. The cloud whose folder the environment
variable LIGHTOS_CLOUD names is used as it is, `make cloud NOVA=1` has made it; without it one is
started for the session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cinder.client import CinderClient
from testbed.cloud.cloud import Cloud
from testbed.cloud.compute_host import ComputeHost, compute_hosts
from testbed.cloud.disk import Disks, InnerCluster
from testbed.cloud.instances import InstanceImage, Instances
from testbed.cloud.nova import parts_with_compute_hosts
from testbed.polling import wait_until


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    if running := os.environ.get("LIGHTOS_CLOUD"):
        yield Cloud.attach(Path(running))
    else:
        folder = tmp_path_factory.mktemp("cloud")
        parts = (*parts_with_compute_hosts(), InstanceImage())
        with Cloud(folder, parts=parts) as started:
            yield started


@pytest.fixture(scope="session")
def hosts(cloud: Cloud) -> list[ComputeHost]:
    """Both compute hosts; a line of our own to them, beside that of whoever started them."""
    found = compute_hosts(cloud.deployment)
    for host in found:
        host.attach()
    return found


@pytest.fixture(scope="session")
def cluster(cloud: Cloud) -> InnerCluster:
    return InnerCluster(cloud.lab.info, cloud.network)


@pytest.fixture(scope="session")
def cinder(cloud: Cloud) -> CinderClient:
    return CinderClient(cloud.admin.block_storage)


@pytest.fixture
def instances(
    cloud: Cloud, cinder: CinderClient, cluster: InnerCluster, hosts: list[ComputeHost]
) -> Iterator[Instances]:
    """Nova's API; what a test leaves in Nova and Cinder is deleted, and must be gone then."""
    found = Instances(cloud.admin, cinder, Disks(cinder, cluster))
    yield found
    found.delete_everything()
    assert [volume["name"] for volume in cluster.volumes()] == []
    for host in hosts:
        wait_until(lambda host=host: not host.leftovers(), f"{host.name} to have nothing left")
        assert host.virsh("list", "--all", "--name").split() == []
