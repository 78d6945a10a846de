# SPDX-License-Identifier: Apache-2.0
"""A lab cluster in a test network, started and ended by the `lightos` command itself."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from lightos.api.client import LightOSClient
from testbed.cluster import LIGHTOS
from testbed.network import Network

REQUEST_TIMEOUT_SECONDS = 30.0
KILL_SECONDS = 10.0


class LabError(Exception):
    """A `lightos lab` command failed; says which one and what it printed."""


@dataclass
class Lab:
    """A cluster with one node per address, of `network` if none are given, its data under
    `state_dir`."""

    network: Network
    state_dir: Path
    transition_ms: int = 50
    addresses: tuple[str, ...] = ()
    page_port: int | None = None
    info: dict[str, Any] = field(default_factory=dict, init=False)
    """The content of lab.json."""

    @property
    def subsystem_nqn(self) -> str:
        return str(self.info["subsystem_nqn"])

    @property
    def jwt(self) -> str:
        return Path(self.info["jwt_file"]).read_text().strip()

    def start(self) -> None:
        resumes = (self.state_dir / "cluster.sqlite").exists()  # with whatever nodes it has now
        addresses = ",".join(self.addresses or self.network.node_addresses)
        founding = [] if resumes else [f"--addresses={addresses}"]
        page = [] if self.page_port is None else [f"--page-port={self.page_port}"]
        self._lightos("up", "--detach", *founding, *page, f"--transition-ms={self.transition_ms}")
        self.attach()

    def attach(self) -> None:
        """Use the lab that runs in the folder, whoever started it."""
        self.info = json.loads((self.state_dir / "lab.json").read_text())

    def stop(self) -> None:
        self._lightos("down")

    def kill(self) -> None:
        """End the cluster at once, without a word (SIGKILL); `start` resumes it."""
        descriptor = os.pidfd_open(self.info["pid"])
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            select.select([descriptor], [], [], KILL_SECONDS)
        finally:
            os.close(descriptor)

    def stop_node(self, name: str) -> None:
        """End a node's services; its volumes' primaries move to another replica."""
        self._lightos("node", "stop", name)

    def start_node(self, name: str) -> None:
        self._lightos("node", "start", name)

    def add_node(self, address: str) -> None:
        """Have one more node, and wait until it serves; `info` has it then."""
        self._lightos("node", "add", address)
        self.attach()

    def remove_node(self, name: str) -> None:
        self._lightos("node", "remove", name)
        self.attach()

    def move_node(self, name: str, address: str) -> None:
        """Give a node another address, and wait until it serves there."""
        self._lightos("node", "move", name, address)
        self.attach()

    def renew_tokens(self) -> None:
        """Write new tokens to the token files; the old ones stay good."""
        self._lightos("renew-tokens")

    def connection(self, volume_uuid: str, **more: Any) -> dict[str, Any]:
        """`data` of the connection_info that Cinder sends."""
        return {
            "uuid": volume_uuid,
            "subsysnqn": self.subsystem_nqn,
            "lightos_nodes": {
                address: {"target_portal": address, "target_port": 8009, "transport_type": "tcp"}
                for address in self.network.node_addresses
            },
            **more,
        }

    def node_name(self, node_uuid: str) -> str:
        return str(next(n["name"] for n in self.info["nodes"] if n["uuid"] == node_uuid))

    def node_address(self, node_uuid: str) -> str:
        return str(next(n["address"] for n in self.info["nodes"] if n["uuid"] == node_uuid))

    def client(self) -> LightOSClient:
        """The project's API client; use it on a thread that has entered the network."""
        return LightOSClient.connect(
            self.info["api_addresses"],
            self.info["api_port"],
            self.jwt,
            verify=self.info["ca_file"],
            request_timeout_seconds=REQUEST_TIMEOUT_SECONDS,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _lightos(self, *arguments: str) -> None:
        command = [str(LIGHTOS), "lab", *arguments, f"--state-dir={self.state_dir}"]
        done = self.network.run(command, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip())[-2000:]
            raise LabError(f"`lightos lab {' '.join(arguments)}` failed: {said}")
