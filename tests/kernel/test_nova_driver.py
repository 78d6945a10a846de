# SPDX-License-Identifier: Apache-2.0
"""Nova's volume driver on a real kernel host: the disk that libvirt would open."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from testbed import nvme
from testbed.discovery_daemon import DiscoveryDaemon
from testbed.lab import Lab
from tests.kernel.test_connector import connection
from tests.kernel.volumes import MIB, Volumes

pytestmark = pytest.mark.nightly

IMPORT_SECONDS = 400
"""Nova's imports under emulation."""


def test_attach_extend_and_detach(daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes) -> None:
    host = daemon.host
    volume = volumes.create(host.host_nqn)
    info: dict[str, Any] = {
        "driver_volume_type": "lightos",
        "serial": volume.uuid,
        "data": connection(lab, volume.uuid, access_mode="rw"),
    }
    attached = host.call("tests.kernel.guest_nova.attach", info, timeout_seconds=IMPORT_SECONDS)
    device = nvme.find_device(host, volume.uuid)
    info = attached["connection_info"]
    assert info["data"]["device_path"] == device
    disk = ElementTree.fromstring(attached["xml"])
    source, driver = disk.find("source"), disk.find("driver")
    assert source is not None
    assert driver is not None
    assert (disk.get("type"), source.get("dev")) == ("block", device)
    assert (driver.get("io"), driver.get("cache")) == ("native", "none")
    assert driver.get("discard") == "unmap"
    host.run(["dd", "if=/dev/urandom", f"of={device}", "bs=64k", "count=16", "oflag=direct"])

    volumes.resize(volume.uuid, 128 * MIB)
    assert host.call("tests.kernel.guest_nova.extend", info, 128 * MIB) == 128 * MIB

    host.call("tests.kernel.guest_nova.detach", info)
    assert daemon.files() == []
    nvme.wait_for_no_device(host, volume.uuid)
    for force in (False, True):
        host.call("tests.kernel.guest_nova.detach", info, force=force)
