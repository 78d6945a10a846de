# SPDX-License-Identifier: Apache-2.0
"""The discovery client on a real kernel, against the lab and against the kernel's own target."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import pytest

from testbed import nvme
from testbed.cluster import LIGHTOS
from testbed.discovery_daemon import DiscoveryDaemon
from testbed.lab import Lab
from testbed.network import GATEWAY_ADDRESS, interface_address
from testbed.nvmet import DISCOVERY_PORT, REFERRING_PORT, RamTarget
from testbed.polling import wait_until
from tests.kernel.controllers import identities, wait_for_controllers
from tests.kernel.volumes import Volumes
from tests.soak.soak import Soak, make_volumes

OTHER_LAB = ("192.168.75.21", "192.168.75.22", "192.168.75.23")
SOAK_VOLUMES_PER_LAB = 6
SOAK_SECONDS = 15
ANOTHER_HOST_ID = "5d3c2b1a-0000-4000-8000-000000000001"
IPV6_NODE, IPV6_HOST = "fd00:75::14", "fd00:75::101"


def test_a_file_connects_every_node_and_its_removal_disconnects_them(
    daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes
) -> None:
    volume = volumes.create(daemon.host.host_nqn)
    nodes = lab.network.node_addresses
    daemon.publish("volume.conf", lab.subsystem_nqn, nodes[1])
    device = nvme.wait_for_device(daemon.host, volume.uuid)
    wait_for_controllers(daemon.host, lab, nodes)
    ours = (daemon.host.host_nqn, daemon.host.host_id)
    assert identities(daemon.host, lab.subsystem_nqn) == {ours}
    daemon.host.run(["dd", f"if={device}", "of=/dev/null", "bs=64k", "count=4", "iflag=direct"])
    health = json.loads(daemon.host.run(["curl", "-sS", "http://127.0.0.1:6060/healthz"]).stdout)
    assert health["clusters"][0]["controllers_connected"] == len(nodes)

    daemon.remove("volume.conf")
    wait_for_controllers(daemon.host, lab, ())
    nvme.wait_for_no_device(daemon.host, volume.uuid)


def test_controllers_stay_while_any_file_wants_the_subsystem(
    daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes
) -> None:
    volumes.create(daemon.host.host_nqn)
    nodes = lab.network.node_addresses
    daemon.publish("one.conf", lab.subsystem_nqn, *nodes)
    daemon.publish("two.conf", lab.subsystem_nqn, *nodes)
    before = wait_for_controllers(daemon.host, lab, nodes)
    daemon.remove("one.conf")
    # A third file is read after the removal, so its effect proves that the removal was too.
    daemon.publish("three.conf", "nqn.2016-01.com.lightbitslabs:unknown", nodes[0])
    wait_until(lambda: "lightbitslabs:unknown" in daemon.log, "the third file was read")
    assert wait_for_controllers(daemon.host, lab, nodes) == before


def test_a_volume_in_use_keeps_its_paths_even_without_a_file(
    daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes
) -> None:
    host = daemon.host
    volume = volumes.create(host.host_nqn)
    nodes = lab.network.node_addresses
    daemon.publish("volume.conf", lab.subsystem_nqn, *nodes)
    device = nvme.wait_for_device(host, volume.uuid)
    before = wait_for_controllers(host, lab, nodes)
    user = host.popen(["sh", "-c", f"exec sleep 600 <{device}"])
    host.shell(f"mkfs.ext4 -q {device}; mkdir -p /mnt/used; mount {device} /mnt/used")
    daemon.remove("volume.conf")
    wait_until(lambda: "is mounted or part of another device" in daemon.log, "noticed mount")
    host.run(["umount", "/mnt/used"])
    wait_until(lambda: "is open in process" in daemon.log, "noticed the process")
    assert wait_for_controllers(host, lab, nodes) == before
    user.signal()
    wait_for_controllers(host, lab, ())


def test_what_nvme_cli_connected_is_adopted_and_left_alone(
    daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes
) -> None:
    volumes.create(daemon.host.host_nqn)
    nodes = lab.network.node_addresses
    host = daemon.host
    where = ["-t", "tcp", "-a", nodes[0], "-s", "4420", "-n", lab.subsystem_nqn]
    host.run(["nvme", "connect", *where, "-I", ANOTHER_HOST_ID])
    (theirs,) = wait_for_controllers(host, lab, nodes[:1]).values()
    daemon.publish("volume.conf", lab.subsystem_nqn, *nodes)
    assert wait_for_controllers(host, lab, nodes)[nodes[0]] == theirs
    # A host NQN pairs with one host id: theirs goes before the one in /etc/nvme/hostid.
    assert identities(host, lab.subsystem_nqn) == {(host.host_nqn, ANOTHER_HOST_ID)}
    daemon.remove("volume.conf")
    assert wait_for_controllers(host, lab, nodes[:1]) == {nodes[0]: theirs}


def test_a_controller_that_somebody_disconnects_comes_back(
    daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes
) -> None:
    volumes.create(daemon.host.host_nqn)
    nodes = lab.network.node_addresses
    daemon.publish("volume.conf", lab.subsystem_nqn, nodes[0])
    names = wait_for_controllers(daemon.host, lab, nodes)
    daemon.host.run(["nvme", "disconnect", "-d", names[nodes[2]]])
    wait_for_controllers(daemon.host, lab, nodes)


def test_a_node_that_stopped_is_connected_again_when_it_is_back(
    daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes
) -> None:
    volumes.create(daemon.host.host_nqn)
    nodes = lab.network.node_addresses
    node = lab.info["nodes"][2]
    daemon.publish("volume.conf", lab.subsystem_nqn, nodes[0], nodes[1])
    names = wait_for_controllers(daemon.host, lab, nodes)
    lab.stop_node(node["name"])
    try:
        daemon.host.run(["nvme", "disconnect", "-d", names[node["address"]]])
        others = tuple(address for address in nodes if address != node["address"])
        wait_for_controllers(daemon.host, lab, others)
    finally:
        lab.start_node(node["name"])
    wait_for_controllers(daemon.host, lab, nodes)


def test_a_node_that_joins_moves_and_leaves_is_followed(
    daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes
) -> None:
    volumes.create(daemon.host.host_nqn)
    nodes = lab.network.node_addresses
    daemon.publish("volume.conf", lab.subsystem_nqn, nodes[0])
    wait_for_controllers(daemon.host, lab, nodes)
    moved = lab.info["nodes"][2]["name"]
    lab.move_node(moved, GATEWAY_ADDRESS)
    try:
        wait_for_controllers(daemon.host, lab, (*nodes[:2], GATEWAY_ADDRESS))
        lab.add_node(nodes[2])
        joined = next(n["name"] for n in lab.info["nodes"] if n["address"] == nodes[2])
        try:
            wait_for_controllers(daemon.host, lab, (*nodes, GATEWAY_ADDRESS))
        finally:
            lab.remove_node(joined)
        wait_for_controllers(daemon.host, lab, (*nodes[:2], GATEWAY_ADDRESS))
    finally:
        lab.move_node(moved, nodes[2])
    wait_for_controllers(daemon.host, lab, nodes)


def test_the_end_of_the_daemon_costs_no_connection_and_the_next_one_owns_them(
    daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes
) -> None:
    volumes.create(daemon.host.host_nqn)
    nodes = lab.network.node_addresses
    daemon.publish("volume.conf", lab.subsystem_nqn, *nodes)
    before = wait_for_controllers(daemon.host, lab, nodes)
    assert daemon.end(signal.SIGTERM) == 0
    assert wait_for_controllers(daemon.host, lab, nodes) == before
    daemon.start()
    daemon.end(signal.SIGKILL)
    assert wait_for_controllers(daemon.host, lab, nodes) == before
    daemon.start()
    assert wait_for_controllers(daemon.host, lab, nodes) == before
    daemon.remove("volume.conf")
    wait_for_controllers(daemon.host, lab, ())


def test_nodes_with_ipv6_addresses_are_found_and_connected_too(
    daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes
) -> None:
    host = daemon.host
    volume = volumes.create(host.host_nqn)
    nodes = lab.network.node_addresses
    lab.network.add_address(IPV6_NODE)
    host.run(["ip", "address", "add", *interface_address(IPV6_HOST), "dev", "eth0"])
    lab.add_node(IPV6_NODE)
    joined = next(n["name"] for n in lab.info["nodes"] if n["address"] == IPV6_NODE)
    try:
        # Asked over IPv6, the cluster names nodes of either family.
        daemon.publish("volume.conf", lab.subsystem_nqn, f"[{IPV6_NODE}]")
        wait_for_controllers(host, lab, (*nodes, IPV6_NODE))
        device = nvme.wait_for_device(host, volume.uuid)
        assert IPV6_NODE in {path.address for path in nvme.paths(host, device)}
        daemon.remove("volume.conf")
        wait_for_controllers(host, lab, ())
    finally:
        lab.remove_node(joined)
        lab.network.remove_address(IPV6_NODE)


def test_the_kernels_own_target_and_discovery_service_work_too(daemon: DiscoveryDaemon) -> None:
    with RamTarget(daemon.host) as target:
        target.withdraw(DISCOVERY_PORT)
        # The file names a service that knows only where another one is.
        daemon.publish("ram.conf", target.subsystem_nqn, target.address, port=REFERRING_PORT)
        service = f"{target.address}:{DISCOVERY_PORT}"
        wait_until(lambda: f"{service} offers 0 of" in daemon.log, "the referral is followed")
        before = len(daemon.log)
        target.offer(DISCOVERY_PORT)
        uuid = target.namespace_uuid()
        nvme.wait_for_device(daemon.host, uuid)
        wait_until(lambda: f"connected {service} as" in daemon.log[before:], "the log says so")
        log = daemon.log[before:]
        assert log.index(f"{service} announces a change") < log.index(f"connected {service} as")
        daemon.remove("ram.conf")
        nvme.wait_for_no_device(daemon.host, uuid)


def test_connections_follow_files_and_nodes_that_come_and_go(
    daemon: DiscoveryDaemon, lab: Lab, volumes: Volumes, tmp_path: Path
) -> None:
    """The short form of `make soak`."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # shown when the test fails
    host = daemon.host
    for address in OTHER_LAB:
        lab.network.add_address(address)
    with Lab(lab.network, tmp_path, addresses=OTHER_LAB) as other:
        client = other.client()
        made = [
            *make_volumes(lab, volumes, host.host_nqn, SOAK_VOLUMES_PER_LAB),
            *make_volumes(other, Volumes(client), host.host_nqn, SOAK_VOLUMES_PER_LAB),
        ]
        client.close()
        soak = Soak(host, (lab, other), made, random.Random(seed))
        try:
            assert soak.run(SOAK_SECONDS) == []
        finally:
            daemon.remove(*daemon.files())
            nvme.disconnect(host, other.subsystem_nqn)
    for address in OTHER_LAB:
        lab.network.remove_address(address)


@pytest.mark.nightly
def test_a_second_daemon_and_a_host_without_the_module_end_with_one_clear_line(
    daemon: DiscoveryDaemon,
) -> None:
    host = daemon.host
    second = host.run([str(LIGHTOS), "discovery-client"], check=False)
    assert second.returncode == 1
    assert "cannot listen on 127.0.0.1:6060" in second.stderr
    assert "another discovery client" in second.stderr
    daemon.end()
    host.run(["modprobe", "-r", "nvme-tcp", "nvme-fabrics"])
    try:
        without = host.run([str(LIGHTOS), "discovery-client"], check=False)
    finally:
        host.run(["modprobe", "nvme-tcp"])
        daemon.start()
    assert without.returncode == 1
    assert without.stderr.splitlines()[-1].endswith("run `modprobe nvme-tcp`")
