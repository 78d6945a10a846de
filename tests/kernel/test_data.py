# SPDX-License-Identifier: Apache-2.0
"""What a real kernel writes to a volume, it reads back."""

import json

import pytest

from testbed import nvme
from testbed.kernel_host import KernelHost
from testbed.lab import Lab
from tests.kernel.volumes import MIB, Volumes

FIO_VERIFY = (
    *("fio", "--name=verify", "--direct=1", "--ioengine=libaio", "--iodepth=8"),
    *("--rw=randrw", "--bsrange=4k-64k", "--size=16m", "--verify=crc32c", "--do_verify=1"),
    *("--verify_fatal=1", "--output-format=json"),
)


def test_a_file_system_survives_disconnect_and_connect(
    connected: KernelHost, lab: Lab, volumes: Volumes
) -> None:
    volume = volumes.create(connected.host_nqn, compression=True)
    device = nvme.wait_for_device(connected, volume.uuid)
    sums = connected.shell(
        f"mkfs.ext4 -q {device}; mkdir -p /mnt/volume; mount {device} /mnt/volume; "
        "cd /mnt/volume; head -c 8000000 /dev/urandom >random; seq 400000 >compressible; "
        "sha256sum random compressible; cd /; umount /mnt/volume"
    )
    nvme.disconnect(connected, lab.subsystem_nqn)
    assert nvme.find_device(connected, volume.uuid) is None

    nvme.connect_all(connected, lab.network.node_addresses[1])
    device = nvme.wait_for_device(connected, volume.uuid)
    assert connected.run(["e2fsck", "-fn", device]).returncode == 0
    again = connected.shell(
        f"mount {device} /mnt/volume; cd /mnt/volume; sha256sum random compressible; "
        "cd /; umount /mnt/volume"
    )
    assert again == sums


@pytest.mark.parametrize(
    "digests",
    [
        pytest.param((), id="no digest"),
        pytest.param(("--hdr-digest",), id="header digest", marks=pytest.mark.nightly),
        pytest.param(("--data-digest",), id="data digest", marks=pytest.mark.nightly),
        pytest.param(("--hdr-digest", "--data-digest"), id="both digests"),
    ],
)
def test_fio_verifies_what_it_wrote(
    host: KernelHost, lab: Lab, volumes: Volumes, digests: tuple[str, ...]
) -> None:
    volume = volumes.create(host.host_nqn)
    nvme.connect_all(host, lab.network.node_addresses[0], *digests)
    try:
        device = nvme.wait_for_device(host, volume.uuid)
        job = json.loads(host.run([*FIO_VERIFY, f"--filename={device}"]).stdout)["jobs"][0]
    finally:
        nvme.disconnect(host, lab.subsystem_nqn)
    assert job["error"] == 0
    assert job["write"]["io_bytes"] > 0
    assert job["read"]["io_bytes"] >= job["write"]["io_bytes"]  # every write is read again


def test_large_transfers_are_split_and_joined(connected: KernelHost, volumes: Volumes) -> None:
    volume = volumes.create(connected.host_nqn)
    device = nvme.wait_for_device(connected, volume.uuid)
    written, read = connected.shell(
        "head -c 33554432 /dev/urandom >/tmp/content; sha256sum </tmp/content; "
        f"dd if=/tmp/content of={device} bs=4M oflag=direct conv=fsync status=none; "
        f"dd if={device} bs=4M count=8 iflag=direct status=none | sha256sum; rm /tmp/content"
    ).splitlines()
    assert read == written


@pytest.mark.parametrize(
    "command",
    ["blkdiscard {device}", "blkdiscard --zeroout {device}"],
    ids=["deallocate", "write zeroes"],
)
def test_discard_and_write_zeroes_free_space_and_read_as_zeroes(
    connected: KernelHost, volumes: Volumes, command: str
) -> None:
    volume = volumes.create(connected.host_nqn, size_mib=32)
    device = nvme.wait_for_device(connected, volume.uuid)
    connected.shell(f"dd if=/dev/urandom of={device} bs=1M count=32 oflag=direct status=none")
    assert volumes.used_bytes(volume.uuid) >= 32 * MIB

    connected.shell(command.format(device=device))
    connected.shell(f"sync {device}; cmp -n {32 * MIB} {device} /dev/zero")
    assert volumes.used_bytes(volume.uuid) < MIB


def test_two_hosts_share_a_volume(
    connected: KernelHost, second_host: KernelHost, lab: Lab, volumes: Volumes
) -> None:
    volume = volumes.create(connected.host_nqn, second_host.host_nqn)
    nvme.connect_all(second_host, lab.network.node_addresses[2])
    try:
        device = nvme.wait_for_device(connected, volume.uuid)
        theirs = nvme.wait_for_device(second_host, volume.uuid)
        connected.shell(f"echo 'written by one' | dd of={device} bs=4k conv=sync,fsync status=none")
        seen = second_host.shell(f"dd if={theirs} bs=4k count=1 iflag=direct status=none | head -1")
        assert seen == "written by one\n"

        volumes.set_acl(volume.uuid, connected.host_nqn)
        nvme.wait_for_no_device(second_host, volume.uuid)
        assert nvme.find_device(connected, volume.uuid) == device
    finally:
        nvme.disconnect(second_host, lab.subsystem_nqn)
