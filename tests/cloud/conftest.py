# SPDX-License-Identifier: Apache-2.0
"""Needs root, and what `tools/install cloud` installs. The cloud whose folder the environment
variable LIGHTOS_CLOUD names is used as it is; without it one is started for the session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from openstack.block_storage.v3._proxy import Proxy

from testbed.cinder.client import CinderClient
from testbed.cloud.cloud import Cloud
from testbed.cloud.disk import Disks, InnerCluster

GONE_SECONDS = 300


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    if running := os.environ.get("LIGHTOS_CLOUD"):
        yield Cloud.attach(Path(running))
    else:
        with Cloud(tmp_path_factory.mktemp("cloud")) as started:
            yield started


@pytest.fixture(scope="session")
def cluster(cloud: Cloud) -> InnerCluster:
    return InnerCluster(cloud.lab.info, cloud.network)


@pytest.fixture
def storage(cloud: Cloud, cluster: InnerCluster) -> Iterator[Proxy]:
    """Cinder's API; what a test leaves in Cinder and Glance is deleted, and must be gone then."""
    proxy = cloud.admin.block_storage
    images_before = {image.id for image in cloud.admin.image.images()}
    yield proxy
    everywhere = {"all_projects": True}
    newest_first = sorted(proxy.backups(), key=lambda backup: backup.created_at, reverse=True)
    for backup in newest_first:  # an increment goes before what it is based on
        proxy.delete_backup(backup)
        proxy.wait_for_delete(backup, wait=GONE_SECONDS)
    for snapshot in list(proxy.snapshots(**everywhere)):
        proxy.delete_snapshot(snapshot)
        proxy.wait_for_delete(snapshot, wait=GONE_SECONDS)
    for volume in list(proxy.volumes(**everywhere)):
        proxy.delete_volume(volume)
        proxy.wait_for_delete(volume, wait=GONE_SECONDS)
    for image in cloud.admin.image.images():
        if image.id not in images_before:
            cloud.admin.image.delete_image(image)
    assert [volume["name"] for volume in cluster.volumes()] == []
    assert [snapshot["name"] for snapshot in cluster.snapshots()] == []


@pytest.fixture
def cinder(storage: Proxy) -> CinderClient:
    return CinderClient(storage)


@pytest.fixture
def disks(cinder: CinderClient, cluster: InnerCluster) -> Disks:
    return Disks(cinder, cluster)
