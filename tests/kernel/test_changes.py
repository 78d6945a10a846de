# SPDX-License-Identifier: Apache-2.0
"""Changes in the cluster reach a connected kernel by asynchronous events, and I/O goes on."""

import json

import pytest

from testbed import nvme
from testbed.guest import GuestProcess
from testbed.kernel_host import KernelHost
from testbed.lab import Lab
from testbed.network import GATEWAY_ADDRESS
from testbed.polling import wait_until
from tests.kernel.volumes import MIB, Volumes


def test_a_new_size_is_seen_while_the_file_system_is_in_use(
    connected: KernelHost, volumes: Volumes
) -> None:
    volume = volumes.create(connected.host_nqn, size_mib=64)
    device = nvme.wait_for_device(connected, volume.uuid)
    connected.shell(f"mkfs.ext4 -q {device}; mkdir -p /mnt/volume; mount {device} /mnt/volume")
    try:
        volumes.resize(volume.uuid, 128 * MIB)
        wait_until(lambda: nvme.size_bytes(connected, device) == 128 * MIB, f"{device} has grown")
        connected.shell(f"resize2fs {device}; head -c {80 * MIB} /dev/zero >/mnt/volume/file")
    finally:
        connected.shell("umount /mnt/volume")


def test_a_volume_appears_and_disappears_with_the_acl(
    connected: KernelHost, volumes: Volumes
) -> None:
    volume = volumes.create()
    kept = volumes.create(connected.host_nqn)
    kept_device = nvme.wait_for_device(connected, kept.uuid)
    assert nvme.find_device(connected, volume.uuid) is None

    for _ in range(2):
        volumes.set_acl(volume.uuid, connected.host_nqn)
        device = nvme.wait_for_device(connected, volume.uuid)
        connected.run(["dd", f"if={device}", "of=/dev/null", "bs=4k", "count=1", "iflag=direct"])
        volumes.set_acl(volume.uuid)
        nvme.wait_for_no_device(connected, volume.uuid)
    assert nvme.find_device(connected, kept.uuid) == kept_device


def test_a_deleted_volume_disappears(connected: KernelHost, volumes: Volumes) -> None:
    kept = volumes.create(connected.host_nqn)
    volume = volumes.create(connected.host_nqn)
    nvme.wait_for_device(connected, volume.uuid)
    volumes.delete(volume.uuid)
    nvme.wait_for_no_device(connected, volume.uuid)
    assert nvme.find_device(connected, kept.uuid)


def test_the_loss_of_the_primary_node_costs_no_io(
    connected: KernelHost, lab: Lab, volumes: Volumes
) -> None:
    volume = volumes.create(connected.host_nqn)
    device = _device_with_three_paths(connected, volume.uuid)
    fio = _start_fio(connected, device, volumes, volume.uuid, seconds=16)
    lost = lab.node_name(volume.primary_node_uuid)

    lab.stop_node(lost)
    try:
        wait_until(
            lambda: volumes.get(volume.uuid).primary_node_uuid != volume.primary_node_uuid,
            f"another primary than {lost}",
        )
        wait_until(
            lambda: (
                lab.node_address(volumes.get(volume.uuid).primary_node_uuid)
                in _optimized(connected, device)
            ),
            "the path to the new primary is optimized",
        )
        _expect_progress(fio)
    finally:
        lab.start_node(lost)
    job = _finish_fio(fio)
    assert job["error"] == 0
    assert job["write"]["total_ios"] > 0
    wait_until(
        lambda: [p.controller_state for p in nvme.paths(connected, device)] == ["live"] * 3,
        f"three live paths again after the start of {lost}",
    )


def test_io_waits_for_a_node_that_is_cut_off_and_then_goes_on(
    host: KernelHost, lab: Lab, volumes: Volumes
) -> None:
    volume = volumes.create(host.host_nqn)
    address = lab.node_address(volume.primary_node_uuid)
    nvme.connect_all(host, address, "--keep-alive-tmo=2", "--reconnect-delay=1")
    try:
        device = _device_with_three_paths(host, volume.uuid)
        fio = _start_fio(host, device, volumes, volume.uuid, seconds=6)
        lab.network.remove_address(address)
        try:
            wait_until(
                lambda: any(
                    path.address == address and path.controller_state != "live"
                    for path in nvme.paths(host, device)
                ),
                f"the path to {address} is found dead by keep alive",
            )
        finally:
            lab.network.add_address(address)
        assert _finish_fio(fio)["error"] == 0
    finally:
        nvme.disconnect(host, lab.subsystem_nqn)


def test_a_killed_cluster_resumes_with_all_that_was_flushed(
    host: KernelHost, lab: Lab, volumes: Volumes
) -> None:
    volume = volumes.create(host.host_nqn)
    nvme.connect_all(host, lab.network.node_addresses[0], "--reconnect-delay=1")
    try:
        device = _device_with_three_paths(host, volume.uuid)
        flushed = host.shell(
            f"head -c {8 * MIB} /dev/urandom >/tmp/flushed; sha256sum </tmp/flushed; "
            f"dd if=/tmp/flushed of={device} bs=1M seek=32 oflag=direct conv=fsync status=none"
        )
        fio = _start_fio(host, device, volumes, volume.uuid, seconds=6)
        lab.kill()
        lab.start()
        assert _finish_fio(fio)["error"] == 0
        read = host.shell(
            f"dd if={device} bs=1M skip=32 count=8 iflag=direct status=none | sha256sum"
        )
        assert read == flushed
        again = volumes.get(volume.uuid)
        assert (again.size_bytes, again.acl, again.nsid) == (
            volume.size_bytes,
            volume.acl,
            volume.nsid,
        )
    finally:
        nvme.disconnect(host, lab.subsystem_nqn)


def test_io_goes_on_while_the_primary_node_leaves_the_cluster(
    connected: KernelHost, lab: Lab, volumes: Volumes
) -> None:
    """The volume's ANA group goes with the node; the kernel takes its new one from the ANA log."""
    volume = volumes.create(connected.host_nqn)
    device = _device_with_three_paths(connected, volume.uuid)
    leaving = next(n for n in lab.info["nodes"] if n["uuid"] == volume.primary_node_uuid)
    lab.add_node(GATEWAY_ADDRESS)
    (joined,) = (n for n in lab.info["nodes"] if n["address"] == GATEWAY_ADDRESS)
    try:
        nvme.connect_all(connected, GATEWAY_ADDRESS)
        wait_until(lambda: len(nvme.paths(connected, device)) == 4, "the fourth path")
        fio = _start_fio(connected, device, volumes, volume.uuid, seconds=12)
        lab.remove_node(leaving["name"])
        primary = volumes.get(volume.uuid).primary_node_uuid
        assert primary != leaving["uuid"]
        wait_until(
            lambda: lab.node_address(primary) in _optimized(connected, device),
            "the path to the new primary is optimized",
        )
        _expect_progress(fio)
        assert _finish_fio(fio)["error"] == 0
    finally:
        lab.add_node(leaving["address"])
        lab.remove_node(joined["name"])


@pytest.mark.parametrize("stopped", [0, 1, 2])
def test_discovery_works_while_any_one_node_is_stopped(
    host: KernelHost, lab: Lab, volumes: Volumes, stopped: int
) -> None:
    volumes.create(host.host_nqn)
    nodes = lab.info["nodes"]
    rest = [node["address"] for node in nodes if node is not nodes[stopped]]
    lab.stop_node(nodes[stopped]["name"])
    try:
        log = nvme.nvme_json(host, "discover", "-t", "tcp", "-a", rest[0], "-s", "8009")
    finally:
        lab.start_node(nodes[stopped]["name"])
    subsystems = [r["traddr"] for r in log["records"] if r["subtype"] == "nvme subsystem"]
    assert sorted(subsystems) == rest


def _device_with_three_paths(host: KernelHost, volume_uuid: str) -> str:
    device = nvme.wait_for_device(host, volume_uuid)
    wait_until(lambda: len(nvme.paths(host, device)) == 3, f"three paths of {device}")
    return device


def _optimized(host: KernelHost, device: str) -> list[str]:
    return [p.address for p in nvme.paths(host, device) if p.ana_state == "optimized"]


def _start_fio(
    host: KernelHost, device: str, volumes: Volumes, volume_uuid: str, *, seconds: int
) -> GuestProcess:
    """Random writes, each read again and verified, on the first 16 MiB; under way on return."""
    fio = host.popen(
        [
            *nvme.IGNORING_SIGPIPE,
            *("fio", "--name=failover", f"--filename={device}", "--direct=1", "--bs=4k"),
            *("--ioengine=libaio", "--iodepth=4", "--rw=randwrite", "--size=16m"),
            *("--verify=crc32c", "--verify_backlog=256", "--verify_fatal=1"),
            *("--time_based", f"--runtime={seconds}", "--output-format=json"),
        ]
    )
    wait_until(lambda: volumes.used_bytes(volume_uuid) > 0, f"fio writes to {device}")
    return fio


def _expect_progress(fio: GuestProcess) -> None:
    assert fio.poll() is None, f"fio has ended already: {fio.stderr}{fio.stdout}"


def _finish_fio(fio: GuestProcess) -> dict:
    return json.loads(fio.wait(120).stdout)["jobs"][0]
