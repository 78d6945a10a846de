# SPDX-License-Identifier: Apache-2.0
"""The short form of `make soak`: two clusters, a few volumes, and a seed of its own each time."""

from __future__ import annotations

import random
from pathlib import Path

from testbed import nvme
from testbed.discovery_daemon import DiscoveryDaemon
from testbed.lab import Lab
from tests.kernel.volumes import Volumes
from tests.soak.soak import Soak, make_volumes

ADDRESSES = ("192.168.75.21", "192.168.75.22", "192.168.75.23")
VOLUMES_PER_LAB = 6
SECONDS = 15


def test_connections_follow_files_and_nodes_that_come_and_go(
    daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes, tmp_path: Path
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # shown when the test fails
    host = daemon.host
    for address in ADDRESSES:
        lab.network.add_address(address)
    with Lab(lab.network, tmp_path, addresses=ADDRESSES) as other:
        client = other.client()
        made = [
            *make_volumes(lab, volumes, host.host_nqn, VOLUMES_PER_LAB),
            *make_volumes(other, Volumes(client), host.host_nqn, VOLUMES_PER_LAB),
        ]
        client.close()
        soak = Soak(host, (lab, other), made, random.Random(seed))
        try:
            assert soak.run(SECONDS) == []
        finally:
            daemon.remove(*daemon.files())
            nvme.disconnect(host, other.subsystem_nqn)
    for address in ADDRESSES:
        lab.network.remove_address(address)
