# SPDX-License-Identifier: Apache-2.0
"""The host of cinder-volume and cinder-backup, and its services when one of them dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.cinder.client import CinderClient
from testbed.cloud.cloud import Cloud
from testbed.cloud.disk import Content, Disks
from testbed.cloud.volume_host import BACKUP, VOLUME, VolumeHost
from testbed.cluster import GIB


@pytest.fixture(scope="module")
def volume_host(cloud: Cloud) -> VolumeHost:
    """A line of our own to it, beside that of whoever started it."""
    host = cloud.volume_host
    host.attach()
    return host


def test_only_the_clouds_folder_is_the_machines(cloud: Cloud, volume_host: VolumeHost) -> None:
    shared, own = cloud.deployment.folder / "from-volume-host", Path("/var/tmp/from-volume-host")
    for file in (shared, own):
        volume_host.guest.write_file(str(file), b"written there")
    assert shared.read_bytes() == b"written there"
    assert not own.exists()
    shared.unlink()


@pytest.mark.nightly
def test_killed_services_come_back_and_go_on(
    volume_host: VolumeHost, cinder: CinderClient, disks: Disks
) -> None:
    volume = cinder.create_volume(1)
    content = Content.of("killed")
    disks.write(volume.id, content)
    for binary in (VOLUME, BACKUP):
        volume_host.kill(binary)
        assert not volume_host.is_running(binary)
    volume_host.launch_services()
    volume_host.wait_services()
    clone = cinder.create_volume(1, source=cinder.volume(volume.id))
    assert disks.sha256(clone.id) == content.sha256(GIB)
