# SPDX-License-Identifier: Apache-2.0
"""The lab cluster as the tests see it: started by its own command, read over plain HTTPS.

The tests read the cluster without the project's client, so that what the driver did is judged
by something that shares no code with it.
"""

import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import requests

from testbed.polling import wait_until

LIGHTOS = Path(sys.executable).with_name("lightos")
PROJECT = "default"
GIB = 1 << 30
REQUEST_TIMEOUT_SECONDS = 60


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def loopback_addresses(count: int) -> list[str]:
    """Addresses of this run's own: the NVMe ports are fixed, and other runs may be under way."""
    second, third = random.randrange(16, 255), random.randrange(1, 255)  # noqa: S311 - no secrets
    return [f"127.{second}.{third}.{host}" for host in range(1, count + 1)]


@contextmanager
def running_lab(state_dir: Path, **options: object) -> Iterator[dict[str, Any]]:
    """A three-node lab cluster; gives the content of its lab.json.

    `options` of `lightos lab up` that differ: `transition_ms`, `projects`, `addresses` ...
    """
    settings = {
        "state_dir": state_dir,
        "addresses": ",".join(loopback_addresses(3)),
        "api_port": free_port(),
        "transition_ms": 50,
        **options,
    }
    words = ((f"--{name.replace('_', '-')}", str(value)) for name, value in settings.items())
    up = [LIGHTOS, "lab", "up", "--detach", *chain(*words)]
    subprocess.run(up, check=True, stdout=subprocess.DEVNULL)
    try:
        yield json.loads((state_dir / "lab.json").read_text())
    finally:
        down = [LIGHTOS, "lab", "down", "--state-dir", state_dir]
        subprocess.run(down, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def stopped_node(state_dir: Path, name: str) -> Iterator[None]:
    """A node without its services, the management API among them; started again afterwards."""
    node: list[str | Path] = [LIGHTOS, "lab", "node"]
    subprocess.run([*node, "stop", name, "--state-dir", state_dir], check=True)
    try:
        yield
    finally:
        subprocess.run([*node, "start", name, "--state-dir", state_dir], check=True)


class Cluster:
    """Reads the management API of the cluster that ``lab`` (lab.json) describes."""

    def __init__(self, lab: dict[str, Any]) -> None:
        self.lab = lab
        self._session = requests.Session()
        self._base = f"https://{lab['api_addresses'][-1]}:{lab['api_port']}/api/v2"

    @property
    def jwt(self) -> str:
        """The token, which the lab may have replaced."""
        return Path(self.lab["jwt_file"]).read_text().strip()

    def get(self, path: str, **query: str) -> dict[str, Any]:
        return self._call("GET", path, params=query)

    def request(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """What an administrator does without Cinder."""
        return self._call(method, path, json=body)

    @contextmanager
    def stopped(self, node_uuid: str) -> Iterator[None]:
        """As `stopped_node`, by the management API; returns when the node is active again."""
        self.request("POST", f"/nodes/{node_uuid}/stop", {})
        try:
            yield
        finally:
            self.request("POST", f"/nodes/{node_uuid}/start", {})
            wait_until(
                lambda: self.get(f"/nodes/{node_uuid}")["state"] == "Active",
                f"node {node_uuid} to be active",
                pause=0.005,
            )

    def _call(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        reply = self._session.request(
            method,
            f"{self._base}{path}",
            headers={"Authorization": f"Bearer {self.jwt}"},
            verify=self.lab["ca_file"],  # per request: the session's gives way to the environment
            timeout=REQUEST_TIMEOUT_SECONDS,
            **content,
        )
        reply.raise_for_status()
        return dict(reply.json())

    def volumes(self) -> list[dict[str, Any]]:
        return list(self.get(f"/projects/{PROJECT}/volumes").get("volumes", []))

    def snapshots(self) -> list[dict[str, Any]]:
        return list(self.get(f"/projects/{PROJECT}/snapshots").get("snapshots", []))

    def everything(self, kind: str) -> list[dict[str, Any]]:
        """All `volumes` or `snapshots`, those that are being deleted among them."""
        return list(self.get(f"/projects/{PROJECT}/{kind}", showAll="true").get(kind, []))

    def volume_of(self, cinder_volume_id: str) -> dict[str, Any]:
        """The one volume that stands for a Cinder volume."""
        (found,) = (v for v in self.volumes() if v["name"] == f"volume-{cinder_volume_id}")
        return found

    def snapshot_of(self, cinder_snapshot_id: str) -> dict[str, Any]:
        (found,) = (s for s in self.snapshots() if s["name"] == f"snapshot-{cinder_snapshot_id}")
        return found

    def host_nqns(self, cinder_volume_id: str) -> set[str]:
        """Who may connect to the volume; empty when nobody may."""
        return allowed(self.volume_of(cinder_volume_id)["acl"])

    def refuse_hosts(self, cinder_volume_id: str) -> None:
        """Take the volume from every host, as the cluster's administrator may, behind Cinder."""
        path = f"/projects/{PROJECT}/volumes/{self.volume_of(cinder_volume_id)['UUID']}"
        self.request("PUT", path, {"acl": {"values": ["ALLOW_NONE"]}})

    def host_addresses(self, cinder_volume_id: str) -> set[str]:
        return allowed(self.volume_of(cinder_volume_id)["IPAcl"])


def allowed(acl: dict[str, Any]) -> set[str]:
    values = set(acl["values"])
    if "ALLOW_NONE" in values:
        assert values == {"ALLOW_NONE"}, f"ALLOW_NONE must stand alone: {values}"
        return set()
    assert values, "an empty ACL is no valid state: it must be ALLOW_NONE"
    return values


def connector(host: str, *, number: int) -> dict[str, Any]:
    """What os-brick reports for a compute host."""
    address = f"192.168.75.{100 + number}"
    return {
        "platform": "x86_64",
        "os_type": "linux",
        "ip": address,
        "host": host,
        "multipath": True,
        "initiator": f"iqn.2004-10.com.example:{host}",
        "nqn": f"nqn.2014-08.org.nvmexpress:uuid:6d5d0b8e-0000-4000-8000-{number:012d}",
        "nvme_native_multipath": True,
        "found_dsc": "found",
        "host_ips": [address, f"10.20.0.{number}"],
        "do_local_attach": False,
    }


def sensitive_words(lab: dict[str, Any]) -> list[str]:
    """The token, and the parts of it that alone would give it away."""
    jwt = Path(lab["jwt_file"]).read_text().strip()
    _header, claims, signature = jwt.split(".")
    return [jwt, claims, signature]


def files_with(words: list[str], folder: Path, *, but: set[Path]) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and path not in but and os.access(path, os.R_OK)
        if any(word.encode() in path.read_bytes() for word in words)
    ]
