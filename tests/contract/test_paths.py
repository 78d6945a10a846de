# SPDX-License-Identifier: Apache-2.0
"""Writes that are late: a node that has lost the primary role since they came refuses them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from lightos.nvme_tcp import commands
from lightos.nvme_tcp.constants import Status
from testbed.faults import Faults
from testbed.initiator import Initiator
from testbed.polling import wait_until
from tests.contract.lab import PROJECT, Api, Lab
from tests.contract.test_data_path import BLOCK, OPEN_TO_HOST, all_paths, block, connect
from tests.contract.test_limits import SLOW, policy


class Cluster:
    """A lab and one volume in it, asked about at a node that is not its first primary."""

    def __init__(self, lab: Lab, **options: object) -> None:
        self.lab = lab
        first, *_ = self.nodes = [node["uuid"] for node in lab.info["nodes"]]
        self.api = Api(lab, node=2)
        self.faults = Faults(lab.info)
        volume = self.api.create_volume("vol", **OPEN_TO_HOST, **options)
        assert volume["primaryNodeUUID"] == first
        self.first, self.uuid, self.nsid = first, volume["UUID"], volume["nsid"]

    @property
    def address(self) -> str:
        """Of the first primary."""
        return str(self.lab.info["nodes"][0]["address"])

    @property
    def primary(self) -> str:
        read = self.api.call("GET", f"{PROJECT}/volumes/{self.uuid}")
        return str(read["primaryNodeUUID"])

    @property
    def traffic(self) -> dict[str, Any]:
        counted: dict[str, Any] = self.api.raw("GET", "/lab/v1/traffic").json()
        return counted

    @property
    def state(self) -> str:
        """Of the first primary, as another node sees it."""
        return str(self.api.call("GET", f"/api/v2/nodes/{self.first}")["state"])

    def wait_for_primary(self, node_uuid: str) -> None:
        wait_until(lambda: self.primary == node_uuid, f"primary {node_uuid}", pause=0.01)

    def submit_write(self, path: Initiator, data: bytes) -> int:
        command = commands.write(self.nsid, 0, 1, block_size=path.block_size(self.nsid))
        return path.io[0].submit(commands.in_capsule(command), data)

    def submit_held_write(self, path: Initiator, data: bytes) -> int:
        """A write that is known to have arrived."""
        before = self.traffic["heldWrites"]
        written = self.submit_write(path, data)
        wait_until(lambda: self.traffic["heldWrites"] > before, "the write is held", pause=0.01)
        return written


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """One where the primary role comes back as soon as it can."""
    lab = Lab(tmp_path / "lab")
    lab.options.append("--failback-seconds=0")
    lab.start()
    try:
        yield Cluster(lab)
    finally:
        lab.stop()


@pytest.mark.parametrize("role_comes_back", [False, True], ids=["role lost", "role came back"])
def test_a_write_that_was_held_never_lands_after_its_retry(
    cluster: Cluster, role_comes_back: bool
) -> None:
    with all_paths(cluster.lab) as paths:
        old = paths[cluster.first]
        held = cluster.faults.add(address=cluster.address, hold="writes")
        late = cluster.submit_held_write(old, block(1))
        demoted = cluster.faults.add(address=cluster.address, demote=True)
        other = paths[cluster.primary]
        assert other is not old
        other.write(cluster.nsid, 0, block(1))
        other.write(cluster.nsid, 0, block(2))
        if role_comes_back:
            cluster.faults.clear(demoted)
            assert cluster.primary == cluster.first
        before = cluster.traffic
        cluster.faults.clear(held)
        refused = old.io[0].wait(late).completion
        assert refused.status == (
            Status.ANA_TRANSITION if role_comes_back else Status.ANA_INACCESSIBLE
        )
        assert not refused.do_not_retry
        after = cluster.traffic
        assert after["writtenBytes"] == before["writtenBytes"]
        assert after["pathRefusals"] == before["pathRefusals"] + 1
        reader = old if role_comes_back else other
        assert reader.read(cluster.nsid, 0, 1) == block(2)
        if role_comes_back:
            old.write(cluster.nsid, 0, block(3))  # the path itself is as good as before
            assert old.read(cluster.nsid, 0, 1) == block(3)


def test_a_write_that_was_held_lands_where_nothing_has_changed(cluster: Cluster) -> None:
    with connect(cluster.lab, cluster.first) as host:
        held = cluster.faults.add(address=cluster.address, hold="writes")
        late = cluster.submit_held_write(host, block(1))
        assert host.read(cluster.nsid, 0, 1) == bytes(BLOCK)
        cluster.faults.clear(held)
        host.io[0].wait(late).check("write")
        assert host.read(cluster.nsid, 0, 1) == block(1)


def test_a_write_that_was_held_does_not_outlive_its_host(cluster: Cluster) -> None:
    """Its primary is the same all the time, so the role does not tell."""
    held = cluster.faults.add(address=cluster.address, hold="writes")
    with connect(cluster.lab, cluster.first) as host:
        cluster.submit_held_write(host, block(1))
    with connect(cluster.lab, cluster.first) as host:
        before = cluster.traffic["writtenBytes"]
        cluster.faults.clear(held)
        host.write(cluster.nsid, 0, block(2))
        assert cluster.traffic["writtenBytes"] == before + BLOCK
        assert host.read(cluster.nsid, 0, 1) == block(2)
    log = (cluster.lab.state_dir / "lab.log").read_text()
    assert "a write that was held is refused" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("in_capsule", [True, False], ids=["in capsule", "data asked for"])
def test_a_frozen_node_refuses_what_came_meanwhile(cluster: Cluster, in_capsule: bool) -> None:
    """Its volumes have moved; that they are back at once when it thaws must not matter."""
    with all_paths(cluster.lab) as paths:
        old = paths[cluster.first]
        old.write(cluster.nsid, 0, block(0))
        frozen = cluster.faults.add(address=cluster.address, freeze=True)
        assert cluster.state == "Inactive"
        command = commands.write(cluster.nsid, 0, 1, block_size=BLOCK)
        late = old.io[0].submit(commands.in_capsule(command) if in_capsule else command, block(1))
        old.io[0].socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            old.io[0].wait(late)
        other = paths[cluster.primary]
        assert other is not old
        other.write(cluster.nsid, 0, block(1))
        other.write(cluster.nsid, 0, block(2))
        cluster.faults.clear(frozen)
        old.io[0].socket.settimeout(20)
        refused = old.io[0].wait(late).completion
        assert refused.status in (Status.ANA_INACCESSIBLE, Status.ANA_TRANSITION)
        cluster.wait_for_primary(cluster.first)
        assert cluster.state == "Active"
        assert old.read(cluster.nsid, 0, 1) == block(2)
        old.write(cluster.nsid, 0, block(3))
        assert old.read(cluster.nsid, 0, 1) == block(3)


def test_a_frozen_node_takes_connections_and_calls_and_answers_them_when_it_thaws(
    cluster: Cluster,
) -> None:
    ports = ("discovery_port", "nvme_port")
    frozen = cluster.faults.add(address=cluster.address, freeze=True)
    hosts = [
        socket.create_connection((cluster.address, cluster.lab.info[port]), 20) for port in ports
    ]
    for host in hosts:
        host.sendall(b"no PDU of any kind")
        host.settimeout(0.3)
        with pytest.raises(TimeoutError):
            host.recv(1)
    there = Api(cluster.lab, node=0)
    with pytest.raises(requests.exceptions.ReadTimeout):
        there.raw("GET", "/api/v2/version", timeout=0.3)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(there.raw, "GET", "/api/v2/version")
        cluster.faults.clear(frozen)
        assert asked.result().status_code == 200
    for host in hosts:
        host.settimeout(20)
        assert host.recv(1)  # it is told what it did wrong
        host.close()


def test_a_frozen_node_can_be_stopped_and_started(cluster: Cluster) -> None:
    cluster.faults.add(address=cluster.address, freeze=True)
    name = cluster.lab.info["nodes"][0]["name"]
    cluster.lab.node("stop", name)
    cluster.faults.clear()
    cluster.lab.node("start", name)
    cluster.wait_for_primary(cluster.first)
    with connect(cluster.lab, cluster.first) as host:
        host.write(cluster.nsid, 0, block(1))


def test_a_write_that_waited_its_turn_is_refused_when_the_role_moved(cluster: Cluster) -> None:
    path = f"{PROJECT}/volumes/{cluster.uuid}"
    cluster.api.call("PUT", path, {"qosPolicyUUID": policy(cluster.api, **SLOW)})
    cluster.api.settled("volumes", cluster.uuid)
    with connect(cluster.lab, cluster.first) as host:
        waiting = [cluster.submit_write(host, block(1)) for _ in range(3)]
        cluster.faults.clear(cluster.faults.add(address=cluster.address, demote=True))
        assert cluster.primary == cluster.first
        refused = host.io[0].wait(waiting[-1]).completion
        assert refused.status == Status.ANA_TRANSITION
