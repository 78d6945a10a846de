# SPDX-License-Identifier: Apache-2.0
"""The unit that `lightos discovery-client systemd-unit` prints, run by systemd itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed import nvme
from testbed.discovery_daemon import DiscoveryDaemon
from testbed.kernel_host import KernelHost
from testbed.lab import Lab
from testbed.polling import wait_until
from testbed.systemd import Systemd
from tests.kernel.controllers import wait_for_controllers
from tests.kernel.volumes import Volumes

pytestmark = pytest.mark.nightly

NAME = "lightos-discovery-client.service"
CONFIGURATION = "/etc/discovery-client/discovery-client.yaml"
LOG = "/var/log/discovery-client.log"


@pytest.fixture
def systemd(host: KernelHost) -> Iterator[Systemd]:
    printed = host.call("tests.kernel.guest_cli.run", "discovery-client", "systemd-unit")
    host.write_file(CONFIGURATION, f"logging: {{filename: {LOG}}}\n".encode())
    with Systemd(host, NAME, printed["stdout"]) as started:
        yield started
    host.run(["rm", CONFIGURATION, LOG])


def test_the_unit_is_active_once_ready_and_its_sandbox_leaves_what_the_daemon_needs(
    systemd: Systemd, host: KernelHost, lab: Lab, volumes: Volumes
) -> None:
    def log() -> str:
        return host.read_file(LOG).decode()

    assert " ready\n" in log(), "systemd waits for the notification"
    volume = volumes.create(host.host_nqn)
    nodes = lab.network.node_addresses
    files = DiscoveryDaemon(host)  # another one runs
    files.publish("volume.conf", lab.subsystem_nqn, nodes[0])
    wait_for_controllers(host, lab, nodes)
    device = nvme.wait_for_device(host, volume.uuid)
    user = host.popen(systemd.command(["sh", "-c", f"exec sleep 600 <{device}"]))
    files.remove("volume.conf")
    wait_until(lambda: f"{device} is open in process" in log(), "noticed the process")
    user.signal()
    wait_for_controllers(host, lab, ())

    files.publish("volume.conf", lab.subsystem_nqn, nodes[0])
    before = wait_for_controllers(host, lab, nodes)
    systemd.call("stop", NAME)
    assert systemd.show("ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    assert wait_for_controllers(host, lab, nodes) == before
    files.remove("volume.conf")
    nvme.disconnect(host, lab.subsystem_nqn)
