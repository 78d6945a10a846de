# SPDX-License-Identifier: Apache-2.0
"""Instances on real compute hosts use LightOS volumes: boot, attach, extend, share, detach."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest
from openstack.exceptions import ConflictException

from testbed.cinder.client import CinderClient
from testbed.cloud.boot_sector import Area
from testbed.cloud.cloud import Cloud
from testbed.cloud.compute_host import HOSTS, ComputeHost
from testbed.cloud.disk import InnerCluster
from testbed.cloud.instances import Instance, Instances
from testbed.cluster import GIB

FIRST, SECOND = HOSTS


def disks(host: ComputeHost, instance: Instance) -> list[ElementTree.Element]:
    """The disks that libvirt has in the instance's domain."""
    domain = ElementTree.fromstring(host.virsh("dumpxml", instance.id))
    return domain.findall("devices/disk")


def test_boot_attach_extend_detach(
    instances: Instances,
    cinder: CinderClient,
    cluster: InnerCluster,
    hosts: list[ComputeHost],
) -> None:
    instance = instances.boot("whole-life", FIRST)
    data = cinder.create_volume(1)
    instances.attach(instance, data.id)
    assert cluster.host_nqns(data.id) == {hosts[0].guest.host_nqn}
    for disk in disks(hosts[0], instance):
        driver = disk.find("driver")
        assert driver is not None
        assert (driver.get("io"), driver.get("cache")) == ("native", "none")
        assert driver.get("discard") == "unmap"

    for volume_id in (data.id, instance.volume_id):
        assert instances.progress(instance, volume_id).size_bytes == GIB
        instances.extend(instance, volume_id, 2)

    instances.detach(instance, data.id)
    assert instances.check(instance, data.id).counter > 0
    assert len(disks(hosts[0], instance)) == 1
    assert cluster.host_nqns(data.id) == set()
    instances.attach(instance, data.id)  # once more: nothing stands in the way
    instances.detach(instance, data.id)

    instances.delete(instance)
    assert instances.check(instance).counter > 0


@pytest.mark.nightly
def test_only_nova_detaches_what_an_instance_uses(
    cloud: Cloud,
    instances: Instances,
    cinder: CinderClient,
    cluster: InnerCluster,
    hosts: list[ComputeHost],
) -> None:
    """The access that a host has must not go while its instance writes (CVE-2023-2088).

    Nova shows beside the user's token that of a service, `[service_user]` of nova.conf.
    """
    instance = instances.boot("kept", FIRST)
    data = cinder.create_volume(1)
    instances.attach(instance, data.id)
    (attachment,) = (found for found in cinder.attachments() if found.volume_id == data.id)
    storage = cloud.admin.block_storage
    with pytest.raises(ConflictException):
        cinder.detach(attachment)
    with pytest.raises(ConflictException):
        storage.detach_volume(data.id, attachment.id)
    with pytest.raises(ConflictException):
        storage.terminate_volume_attachment(data.id, {"nqn": hosts[0].guest.host_nqn})
    assert cluster.host_nqns(data.id) == {hosts[0].guest.host_nqn}
    instances.wait_writes(instance, data.id)

    instances.conclude(instance, data.id)
    assert cluster.host_nqns(data.id) == set()


@pytest.fixture
def shared(cloud: Cloud, cinder: CinderClient) -> Any:
    """A volume that may be attached several times."""
    volume_type = cloud.admin.block_storage.find_type("lightos-multiattach")
    return cinder.create_volume(1, volume_type=volume_type)


@pytest.mark.nightly
@pytest.mark.parametrize("other_host", [FIRST, SECOND])
def test_two_instances_share_a_volume_and_one_lets_go(
    instances: Instances,
    shared: Any,
    cluster: InnerCluster,
    other_host: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = instances.boot("one", FIRST)
    other = instances.boot("other", other_host, area=Area(1))
    for instance in (one, other):
        instances.attach(instance, shared.id)
    assert len(cluster.host_nqns(shared.id)) == len({FIRST, other_host})
    with instances.watch(one, shared.id) as watch:
        instances.detach(other, shared.id)
    with capsys.disabled():
        print(
            f"\ndetach of a shared volume on {other_host}: {watch.writes} writes of the other "
            f"instance, longest stall of I/O {watch.longest_stall_seconds:.2f} s"
        )
    assert watch.writes > 0
    instances.wait_writes(one, shared.id)
    assert len(cluster.host_nqns(shared.id)) == 1
    instances.detach(one, shared.id)
    for instance in (one, other):
        assert instances.check(instance, shared.id).counter > 0
