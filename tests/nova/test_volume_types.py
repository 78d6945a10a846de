# SPDX-License-Identifier: Apache-2.0
"""What a volume type asks for reaches the instance: encryption, limits; and discarded space."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest

from testbed.cinder.client import CinderClient
from testbed.cloud.boot_sector import DISCARDED, PLACES, SECTOR_BYTES, Progress, wrong_sectors
from testbed.cloud.cloud import ENCRYPTED_TYPE, Cloud
from testbed.cloud.compute_host import HOSTS, ComputeHost
from testbed.cloud.deployment import Deployment
from testbed.cloud.disk import Content, Disks, InnerCluster
from testbed.cloud.instances import WRITES, Instance, Instances
from testbed.polling import wait_until

pytestmark = pytest.mark.nightly

FIRST, _ = HOSTS
MIB = 1 << 20
LIMIT_IOPS = 512
"""One of the numbers that a policy of the cluster can have."""
DECRYPT = """
cryptsetup open --type luks --readonly --key-file - {encrypted} decrypted
dd if=/dev/mapper/decrypted of={plain} bs=1M
cryptsetup close decrypted
"""
SPACE_SECONDS = 60


def data_disk(host: ComputeHost, instance: Instance, volume_id: str) -> ElementTree.Element:
    """A volume's disk in the instance's domain."""
    domain = ElementTree.fromstring(host.virsh("dumpxml", instance.id))
    (disk,) = (d for d in domain.findall("devices/disk") if d.findtext("serial") == volume_id)
    return disk


def test_an_encrypted_volume_is_readable_with_its_key_only(
    cloud: Cloud,
    instances: Instances,
    cinder: CinderClient,
    cluster: InnerCluster,
    hosts: list[ComputeHost],
) -> None:
    volume_type = cloud.admin.block_storage.find_type(ENCRYPTED_TYPE)
    instance = instances.boot("secretive", FIRST)
    volume = cinder.create_volume(1, volume_type=volume_type)
    instances.ask_attach(instance, volume.id)
    wait_until(lambda: cinder.volume(volume.id).status == "in-use", "the attach", 300)
    # By then it has written to all its disks, and to every place there: one that was never
    # written to is noise when it is decrypted.
    instances.wait_writes(instance, writes=WRITES + PLACES)
    instances.detach(instance, volume.id)
    with Disks(cinder, cluster).attached(volume.id) as disk:
        head = disk.read(0, 16 * MIB)
    assert head.startswith(b"LUKS")
    assert b"LTOS" not in head
    plain = decrypted(head, cloud.deployment, hosts[0])
    said = Progress.parse(plain[instance.area.progress_sector * SECTOR_BYTES :])
    data = plain[instance.area.first_sector * SECTOR_BYTES :]
    assert said.counter >= PLACES
    assert said.errors == 0
    assert wrong_sectors(said.counter, data[: PLACES * SECTOR_BYTES]) == []


def decrypted(stored: bytes, deployment: Deployment, host: ComputeHost) -> bytes:
    """What the start of a LUKS volume holds, by the kernel of a host: QEMU has encrypted it.

    Nova gives QEMU the key as hexadecimal digits; the cloud's key manager has one key.
    """
    names = ("stored", "plain")
    encrypted, plain = (deployment.state(f"luks-{host.name}") / name for name in names)
    encrypted.write_bytes(stored)
    host.guest.shell(
        DECRYPT.format(encrypted=encrypted, plain=plain), stdin=deployment.fixed_key.encode()
    )
    return plain.read_bytes()


@pytest.fixture
def limited_type(cinder: CinderClient) -> Iterator[Any]:
    """A type with a limit, deleted when its volumes are: name it before `instances`."""
    found = cinder.create_qos_type(
        "lightos-limited",
        {"total_iops_sec": str(LIMIT_IOPS)},
        {"volume_backend_name": "lightos-1"},
        consumer="both",
    )
    yield found
    cinder.delete_qos_type(found)


def test_qos_of_the_type_reaches_the_cluster_and_the_instance(
    limited_type: Any,
    instances: Instances,
    cinder: CinderClient,
    cluster: InnerCluster,
    hosts: list[ComputeHost],
) -> None:
    instance = instances.boot("limited", FIRST)
    volume = cinder.create_volume(1, volume_type=limited_type)
    instances.attach(instance, volume.id)
    disk = data_disk(hosts[0], instance, volume.id)
    assert disk.findtext("iotune/total_iops_sec") == str(LIMIT_IOPS)
    policy = cluster.get(f"/policies/{cluster.volume_of(volume.id)['qosPolicyUUID']}")
    limits = policy["QoSRateLimitPolicy"]["limitIOPS"]
    assert limits == {"readIOPSLimit": LIMIT_IOPS, "writeIOPSLimit": LIMIT_IOPS}
    instances.conclude(instance, volume.id)


def test_space_that_the_instance_discards_comes_back(
    instances: Instances, cinder: CinderClient, cluster: InnerCluster
) -> None:
    def used_bytes() -> int:
        return int(cluster.volume_of(volume.id)["statistics"]["logicalUsedStorage"])

    disks = Disks(cinder, cluster)
    instance = instances.boot("tidy", FIRST)
    volume = cinder.create_volume(1)
    disks.write(volume.id, Content({DISCARDED.start: b"Z" * len(DISCARDED)}))
    wait_until(lambda: used_bytes() >= len(DISCARDED), "the data to take space", SPACE_SECONDS)
    instances.attach(instance, volume.id)
    wait_until(lambda: used_bytes() < len(DISCARDED), "the space to come back", SPACE_SECONDS)
    instances.conclude(instance, volume.id)
    with disks.attached(volume.id) as disk:
        assert not any(disk.read(DISCARDED.start, MIB))
