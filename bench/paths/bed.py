# SPDX-License-Identifier: Apache-2.0
"""A host, a lab of three nodes, and a volume of three replicas that our daemon keeps connected."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from lightos.api.client import LightOSClient
from lightos.api.models.volumes import CreateVolume, Volume
from lightos.waiting import Deadline
from testbed import nvme
from testbed.cluster import Cluster
from testbed.discovery_daemon import DiscoveryDaemon
from testbed.faults import Faults
from testbed.guest import Guest
from testbed.lab import Lab
from testbed.network import Network
from testbed.polling import wait_until

PROJECT = "default"
VOLUME_BYTES = 64 << 20
API_SECONDS = 30.0
SETTLE_SECONDS = 120.0
"""A connect that meets a fault repeats its SYN ever more slowly, and is tried again after that."""
LOSS_SECONDS = 12
SHORT_TIMEOUTS = {
    "DC_KATO": "2",
    "DC_RECONNECTDELAY": "1",
    "DC_CTRLLOSSTMO": str(LOSS_SECONDS),
}
"""So that a fault is seen, and is over, in seconds; what they mean is in the daemon's manual."""
FILE = "volume.conf"


@dataclass
class Bed:
    """Where faults happen. The daemon runs, and the volume has all its paths."""

    host: Guest
    lab: Lab
    daemon: DiscoveryDaemon
    client: LightOSClient
    volume_uuid: str

    @property
    def network(self) -> Network:
        return self.lab.network

    @property
    def addresses(self) -> tuple[str, ...]:
        return self.network.node_addresses

    @property
    def device(self) -> str:
        return nvme.wait_for_device(self.host, self.volume_uuid, SETTLE_SECONDS)

    @property
    def volume(self) -> Volume:
        return self.client.get_volume(PROJECT, self.volume_uuid, Deadline(API_SECONDS))

    @property
    def primary(self) -> str:
        """Address of the node that serves the volume, as the cluster says."""
        return self.lab.node_address(self.volume.primary_node_uuid)

    def faults_but_at(self, address: str) -> Faults:
        """The lab's fault plan, asked for at another node than the one it is for."""
        others = [other for other in self.lab.info["api_addresses"] if other != address]
        return Faults({**self.lab.info, "api_addresses": others})

    def traffic(self) -> dict[str, Any]:
        """What the lab has counted."""
        return self.faults_but_at("").traffic()

    @contextmanager
    def stopped(self, *addresses: str) -> Iterator[None]:
        """Without these nodes for a while; it ends when they are active again."""
        nodes = self.lab.info["nodes"]
        left = next(node["address"] for node in nodes if node["address"] not in addresses)
        cluster = Cluster({**self.lab.info, "api_addresses": [left]})
        with ExitStack() as stack:
            for node in nodes:
                if node["address"] in addresses:
                    stack.enter_context(cluster.stopped(node["uuid"]))
            yield

    def paths(self) -> list[nvme.Path]:
        """Those of the volume; none while its device is gone."""
        device = nvme.find_device(self.host, self.volume_uuid)
        return nvme.paths(self.host, device) if device else []

    def optimized(self) -> set[str]:
        """Addresses that the kernel sends I/O to."""
        return {
            path.address
            for path in self.paths()
            if (path.controller_state, path.ana_state) == ("live", "optimized")
        }

    def wait_for_loss(self, *addresses: str) -> None:
        """Wait until the kernel takes these paths for lost."""

        def lost() -> bool:
            live = {path.address for path in self.paths() if path.controller_state == "live"}
            return not live.intersection(addresses)

        self.wait(lost, f"the paths to {', '.join(addresses)} are lost")

    def wait_for_another_primary(self, *than: str) -> None:
        """Wait until the kernel sends I/O to a node that is none of these."""
        self.wait(lambda: self.optimized() - set(than), f"I/O goes elsewhere than to {than}")

    def wait_for_paths(self) -> None:
        """Wait until there is a live path to each node, and the primary's alone is optimized."""

        def settled() -> bool:
            live = {path.address for path in self.paths() if path.controller_state == "live"}
            return live == set(self.addresses) and self.optimized() == {self.primary}

        self.wait(settled, "a path to each node, and I/O to the primary")

    def healthz(self) -> dict[str, Any]:
        """What the daemon says of itself."""
        said = self.host.run(["curl", "-sS", "http://127.0.0.1:6060/healthz"]).stdout
        return dict(json.loads(said))

    @staticmethod
    def wait(condition: Callable[[], Any], what: str) -> None:
        wait_until(condition, what, SETTLE_SECONDS)


@contextmanager
def volume_in_use(
    host: Guest, lab: Lab, daemon: DiscoveryDaemon, client: LightOSClient
) -> Iterator[Bed]:
    """A volume that the daemon has connected; it is gone afterwards."""
    request = CreateVolume(
        project=PROJECT,
        name="paths",
        size_bytes=VOLUME_BYTES,
        acl=(host.host_nqn,),
        replica_count=3,
    )
    volume = client.create_volume(PROJECT, request, Deadline(API_SECONDS))
    daemon.publish(FILE, lab.subsystem_nqn, *lab.network.node_addresses)
    bed = Bed(host, lab, daemon, client, volume.uuid)
    try:
        bed.wait_for_paths()
        yield bed
    finally:
        daemon.remove(FILE)
        nvme.disconnect(host, lab.subsystem_nqn)
        client.delete_volume(PROJECT, volume.uuid, Deadline(API_SECONDS))
