# SPDX-License-Identifier: Apache-2.0
"""The management API and NVMe/TCP together: what one side does, the other side sees."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from lightos.nvme_tcp.constants import DISCOVERY_NQN, AsyncEvent, Status
from lightos.nvme_tcp.errors import CommandFailed
from testbed.initiator import Initiator, InitiatorError
from tests.contract.lab import PROJECT, Api, Lab

HOST = "nqn.2014-08.org.nvmexpress:uuid:5b5a4fbb-9ad8-4a6c-9d5e-8e5d6d0a9a01"
BLOCK = 4096
OPEN_TO_HOST = {"acl": {"values": [HOST]}, "replicaCount": 3}
NAMESPACE_UUID = 3  # NIDT of a namespace descriptor


def connect(lab: Lab, node_uuid: str) -> Initiator:
    (address,) = (node["address"] for node in lab.info["nodes"] if node["uuid"] == node_uuid)
    return Initiator(address, lab.info["nvme_port"], lab.info["subsystem_nqn"], host_nqn=HOST)


@contextmanager
def all_paths(lab: Lab) -> Iterator[dict[str, Initiator]]:
    """A controller of every node, by node UUID."""
    with ExitStack() as stack:
        yield {
            node["uuid"]: stack.enter_context(connect(lab, node["uuid"]))
            for node in lab.info["nodes"]
        }


def block(byte: int) -> bytes:
    return bytes([byte]) * BLOCK


def test_the_acl_decides_what_a_host_sees(lab: Lab, api: Api) -> None:
    volume = api.create_volume("vol")
    path = f"{PROJECT}/volumes/{volume['UUID']}"
    with connect(lab, volume["primaryNodeUUID"]) as host:
        assert host.namespace_ids() == ()
        told = host.watch(AsyncEvent.NAMESPACE_ATTRIBUTE_CHANGED)
        api.call("PUT", path, {"acl": {"values": [HOST]}})
        assert host.event(told) is AsyncEvent.NAMESPACE_ATTRIBUTE_CHANGED
        assert host.changed_namespaces() == (volume["nsid"],)
        assert host.namespace_ids() == (volume["nsid"],)
        descriptors = host.namespace_descriptors(volume["nsid"])
        assert UUID(bytes=descriptors[NAMESPACE_UUID]) == UUID(volume["UUID"])
        host.write(volume["nsid"], 0, block(1))
        api.settled("volumes", volume["UUID"])
        api.call("PUT", path, {"acl": {"values": ["ALLOW_NONE"]}})
        assert host.namespace_ids() == ()
        with pytest.raises(CommandFailed):
            host.read(volume["nsid"], 0, 1)


def test_only_the_primary_takes_io_and_a_stop_moves_it(own_lab: Lab) -> None:
    api = Api(own_lab)
    volume = api.create_volume("vol", **OPEN_TO_HOST)
    nsid, first = volume["nsid"], volume["primaryNodeUUID"]
    with all_paths(own_lab) as paths:
        paths[first].write(nsid, 0, block(1))
        others = [node for node in paths if node != first]
        for node in others:
            with pytest.raises(CommandFailed) as refused:
                paths[node].write(nsid, 0, block(2))
            assert refused.value.status == Status.ANA_INACCESSIBLE
        told = {node: paths[node].watch(AsyncEvent.ANA_CHANGE) for node in others}
        Api(own_lab, 1).call("POST", f"/api/v2/nodes/{first}/stop", {})
        for node in others:
            assert paths[node].event(told[node]) is AsyncEvent.ANA_CHANGE
        survivor = Api(own_lab, [n["uuid"] for n in own_lab.info["nodes"]].index(others[0]))
        second = survivor.call("GET", f"{PROJECT}/volumes/{volume['UUID']}")["primaryNodeUUID"]
        assert second in others
        assert paths[second].read(nsid, 0, 1) == block(1)
        paths[second].write(nsid, 0, block(3))
        with pytest.raises((InitiatorError, OSError)):
            paths[first].read(nsid, 0, 1)


def test_snapshots_clones_rollback_and_growth_through_nvme(lab: Lab, api: Api) -> None:
    volume = api.create_volume("vol", **OPEN_TO_HOST)
    with connect(lab, volume["primaryNodeUUID"]) as host:
        host.write(volume["nsid"], 0, block(1))
        snapshot = api.create_snapshot("snap", volume["UUID"])
        host.write(volume["nsid"], 0, block(2))
        clone = api.create_volume(
            "clone", **OPEN_TO_HOST, sourceSnapshotUUID=snapshot["UUID"], size="2 gib"
        )
        assert clone["primaryNodeUUID"] == volume["primaryNodeUUID"]
        assert host.read(clone["nsid"], 0, 1) == block(1)
        assert host.read(volume["nsid"], 0, 1) == block(2)
        assert host.identify_namespace(clone["nsid"]).size_blocks * BLOCK == 2 << 30
        path = f"{PROJECT}/volumes/{volume['UUID']}"
        api.call("PUT", f"{path}/rollback", {"srcSnapshotName": "snap"})
        api.settled("volumes", volume["UUID"])
        assert host.read(volume["nsid"], 0, 1) == block(1)
        last = (3 << 30) // BLOCK - 1
        with pytest.raises(CommandFailed):
            host.write(volume["nsid"], last, block(4))
        api.call("PUT", path, {"size": "3 gib"})
        api.settled("volumes", volume["UUID"])
        host.write(volume["nsid"], last, block(4))


def test_a_snapshot_under_writes_is_one_moment(lab: Lab, api: Api) -> None:
    """Block 0 is always written before block 1, so no moment has block 1 ahead."""
    volume = api.create_volume("vol", **OPEN_TO_HOST)
    nsid = volume["nsid"]
    done = threading.Event()
    failures: list[Exception] = []

    def write() -> None:
        try:
            with connect(lab, volume["primaryNodeUUID"]) as host:
                number = 0
                while not done.is_set():
                    number += 1
                    for start in (0, 1):
                        host.write(nsid, start, number.to_bytes(8, "big") * (BLOCK // 8))
        except (InitiatorError, CommandFailed, OSError) as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(10):
            api.create_snapshot(f"s{number}", volume["UUID"])
    finally:
        done.set()
        writer.join()
    assert not failures
    seen = []
    for number in range(10):
        clone = api.create_volume(f"c{number}", **OPEN_TO_HOST, sourceSnapshotName=f"s{number}")
        with connect(lab, clone["primaryNodeUUID"]) as host:
            first, second = (
                int.from_bytes(host.read(clone["nsid"], start, 1)[:8], "big") for start in (0, 1)
            )
        assert second <= first <= second + 1
        seen.append(first)
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]


def test_what_was_written_survives_a_kill(own_lab: Lab) -> None:
    api = Api(own_lab)
    volume = api.create_volume("vol", **OPEN_TO_HOST)
    nsid = volume["nsid"]
    with connect(own_lab, volume["primaryNodeUUID"]) as host:
        host.write(nsid, 0, block(1))
        api.create_snapshot("snap", volume["UUID"])
        for start in range(100):
            host.write(nsid, start * 7, block(start + 100))
        host.flush(nsid)
        own_lab.kill()
    own_lab.start()
    api = Api(own_lab)
    clone = api.create_volume("clone", **OPEN_TO_HOST, sourceSnapshotName="snap")
    with connect(own_lab, volume["primaryNodeUUID"]) as host:
        for start in range(100):
            assert host.read(nsid, start * 7, 1) == block(start + 100)
        assert host.read(clone["nsid"], 0, 1) == block(1)


def test_a_host_hears_nothing_of_an_address_that_swallows_packets(lab: Lab, api: Api) -> None:
    volume = api.create_volume("vol", **OPEN_TO_HOST)
    path = f"{PROJECT}/volumes/{volume['UUID']}"
    address = {node["uuid"]: node["address"] for node in lab.info["nodes"]}
    with connect(lab, volume["primaryNodeUUID"]) as host:
        host.write(volume["nsid"], 0, block(1))
        host.watch(AsyncEvent.NAMESPACE_ATTRIBUTE_CHANGED)
        rule = {"address": address[volume["primaryNodeUUID"]], "swallow": True}
        elsewhere = next(
            n for n, each in enumerate(lab.info["nodes"]) if each["address"] not in rule.values()
        )
        other = Api(lab, node=elsewhere)
        assert other.raw("POST", "/lab/v1/faults", rule).status_code == 200
        other.call("PUT", path, {"size": "2 gib"})
        other.settled("volumes", volume["UUID"])
        for queue in (host.admin, *host.io):
            queue.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            host.write(volume["nsid"], 0, block(2))
        with pytest.raises(TimeoutError):
            host.keep_alive()
        assert other.raw("DELETE", "/lab/v1/faults").status_code == 200
        with pytest.raises((InitiatorError, OSError)):
            host.keep_alive()
    with connect(lab, volume["primaryNodeUUID"]) as host:
        assert host.read(volume["nsid"], 0, 1) == block(1), "what was swallowed is not done later"


def test_discovery_tells_of_nodes_that_join_and_move(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab")
    lab.start()
    try:
        api = Api(lab)
        addresses = lab.info["api_addresses"]
        new, newer = (f"{addresses[0].rpartition('.')[0]}.{host}" for host in (98, 99))
        with Initiator(addresses[0], 8009, DISCOVERY_NQN, host_nqn=HOST, io_queues=0) as host:

            def listed(subsystem: str) -> list[str]:
                log = host.discovery_log()
                return [e.address for e in log.entries if e.subsystem_nqn == subsystem]

            told = host.watch(AsyncEvent.DISCOVERY_LOG_CHANGE)
            for method, name, asked, expected in (
                ("POST", "", new, [*addresses, new]),
                ("PUT", "/node4", newer, [*addresses, newer]),
                ("DELETE", "/node4", None, addresses),
            ):
                body = None if asked is None else {"address": asked}
                assert api.raw(method, f"/lab/v1/nodes{name}", body).status_code == 200
                assert host.event(told) is AsyncEvent.DISCOVERY_LOG_CHANGE
                told = host.watch(AsyncEvent.DISCOVERY_LOG_CHANGE)
                assert listed(lab.info["subsystem_nqn"]) == expected
                assert listed(DISCOVERY_NQN) == expected
    finally:
        lab.stop()


def test_a_volume_goes_on_when_its_node_leaves(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab")
    lab.start()
    try:
        api = Api(lab, node=1)
        volume = api.create_volume("vol", acl={"values": [HOST]}, replicaCount=1)
        first = volume["primaryNodeUUID"]
        name = next(node["name"] for node in lab.info["nodes"] if node["uuid"] == first)
        if name == "node2":
            api = Api(lab, node=2)
        with all_paths(lab) as paths:
            paths[first].write(volume["nsid"], 0, block(1))
            others = {node: path for node, path in paths.items() if node != first}
            told = {node: path.watch(AsyncEvent.ANA_CHANGE) for node, path in others.items()}
            assert api.raw("DELETE", f"/lab/v1/nodes/{name}").status_code == 200
            for node, path in others.items():
                assert path.event(told[node]) is AsyncEvent.ANA_CHANGE
            found = api.call("GET", f"{PROJECT}/volumes/{volume['UUID']}")
            assert paths[found["primaryNodeUUID"]].read(volume["nsid"], 0, 1) == block(1)
    finally:
        lab.stop()
