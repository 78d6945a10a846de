# SPDX-License-Identifier: Apache-2.0
"""One host with our discovery client and two services with os-brick, and one cluster.

The host is user-mode Linux: its processes run at the machine's own speed, so that the connectors
take the share of the time that they have on a host of its own. Emulated CPUs would make Python,
and a kernel's work on top, many times as slow, while the incumbent's pauses stay what they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.sides import INCUMBENT, SIDES
from lightos.api.client import LightOSClient
from lightos.api.errors import NotFound
from lightos.api.models.values import ALLOW_NONE
from lightos.api.models.volumes import CreateVolume, UpdateVolume, VolumeState
from lightos.waiting import Deadline
from testbed.brick_process import BrickProcess
from testbed.discovery_daemon import DiscoveryDaemon
from testbed.lab import Lab
from testbed.network import Network
from testbed.polling import wait_until
from testbed.uml_host import UmlHost
from testbed.uml_kernel import uml_kernel

PROJECT = "default"
VOLUME_BYTES = 64 << 20
API_SECONDS = 60.0
FIRST_PORT = 7501
GUEST_SIDE = "bench.host.guest_side"


@dataclass
class Bed:
    """Volumes are made without access for anybody; `grant` is what Cinder does for an attach."""

    host: UmlHost
    lab: Lab
    daemon: DiscoveryDaemon
    sides: dict[str, BrickProcess]
    client: LightOSClient
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def volume(self) -> str:
        """The UUID of a new volume."""
        request = CreateVolume(
            project=PROJECT,
            name=f"bench-{next(self._numbers)}",
            size_bytes=VOLUME_BYTES,
            acl=(ALLOW_NONE,),
            replica_count=3,
        )
        uuid = self.client.create_volume(PROJECT, request, Deadline(API_SECONDS)).uuid
        wait_until(lambda: self._state(uuid) is VolumeState.AVAILABLE, f"volume {uuid}", pause=0.01)
        return uuid

    def delete(self, uuid: str) -> None:
        self.client.delete_volume(PROJECT, uuid, Deadline(API_SECONDS))

    def grant(self, uuid: str) -> None:
        """The host may use the volume, from now on."""
        self._set_acl(uuid, self.host.host_nqn)

    def revoke(self, uuid: str) -> None:
        self._set_acl(uuid, ALLOW_NONE)

    def _set_acl(self, uuid: str, rule: str) -> None:
        request = UpdateVolume(project=PROJECT, uuid=uuid, acl=(rule,))
        self.client.update_volume(PROJECT, uuid, request, Deadline(API_SECONDS))

    def _state(self, uuid: str) -> VolumeState | None:
        try:
            return self.client.get_volume(PROJECT, uuid, Deadline(API_SECONDS)).state
        except NotFound:
            return None

    def connect(self, side: str, uuid: str) -> float:
        """Attach by one side's connector; seconds that it took."""
        return self.timed(side, "connect", self.lab.connection(uuid))

    def disconnect(self, side: str, uuid: str, *, force: bool = False) -> float:
        return self.timed(side, "disconnect", self.lab.connection(uuid), force=force)

    def timed(self, side: str, function: str, *args: Any, **kwargs: Any) -> float:
        """Seconds that a function of `testbed.brick` took in a side's process."""
        seconds, _ = self.sides[side].call(f"{GUEST_SIDE}.timed", function, *args, **kwargs)
        return float(seconds)

    def connect_at_once(self, side: str, *uuids: str) -> float:
        """Attach all by one side's connector, a thread for each; seconds until all are."""
        connections = map(self.lab.connection, uuids)
        return float(self.sides[side].call(f"{GUEST_SIDE}.timed_at_once", "connect", *connections))

    def look(self, function: str, *args: Any) -> Any:
        """Call a function of `guest_side` in the process that has neither connector."""
        return self.host.call(f"{GUEST_SIDE}.{function}", *args)


@contextmanager
def bed() -> Iterator[Bed]:
    """Boot, start and warm up everything. The calling thread is inside the network meanwhile."""
    uml_kernel()  # built here: inside, no archive can be reached
    with ExitStack() as stack:
        network = stack.enter_context(Network.for_this_process("bench"))
        stack.enter_context(network.entered())
        folder = stack.enter_context(TemporaryDirectory(prefix="lightos-bench-"))
        host = UmlHost(network)
        host.launch()
        stack.callback(host.stop)
        lab = stack.enter_context(Lab(network, Path(folder), transition_ms=0))
        host.wait_ready()
        daemon = stack.enter_context(DiscoveryDaemon(host, settings={"DC_LOGGING_LEVEL": "info"}))
        sides = {
            name: stack.enter_context(BrickProcess(host, port, incumbent=name == INCUMBENT))
            for port, name in enumerate(SIDES, FIRST_PORT)
        }
        client = lab.client()
        stack.callback(client.close)
        made = Bed(host, lab, daemon, sides, client)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda each: each.call("testbed.brick.implementation"), sides.values()))
        yield made
