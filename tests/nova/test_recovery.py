# SPDX-License-Identifier: Apache-2.0
"""Compute hosts that die, are cut off, or lose nova-compute in the middle of something."""

from __future__ import annotations

import pytest
from openstack.exceptions import ConflictException

from testbed.cinder.client import CinderClient
from testbed.cloud.cloud import Cloud
from testbed.cloud.compute_host import COMPUTE, HOSTS, ComputeHost
from testbed.cloud.deployment import SERVICE_PROJECT
from testbed.cloud.disk import InnerCluster
from testbed.cloud.instances import Instances
from testbed.cloud.keystone import connect
from testbed.cloud.nova import USER
from testbed.polling import wait_until

pytestmark = pytest.mark.nightly

FIRST, SECOND = HOSTS
RETURN_SECONDS = 300


def test_after_a_reboot_of_the_host_the_instance_goes_on_with_its_volumes(
    instances: Instances, cinder: CinderClient, hosts: list[ComputeHost]
) -> None:
    instance = instances.boot("rebooted", FIRST)
    data = cinder.create_volume(1)
    instances.attach(instance, data.id)
    attached = hosts[0].namespaces()
    assert len(attached) == 2
    with instances.keeping_writes(instance, "ACTIVE"):
        hosts[0].reboot()
        # Nova, which starts the instance, is not there yet.
        wait_until(lambda: hosts[0].namespaces() == attached, "the volumes to be back")
        hosts[0].start_compute()
        instances.wait_host(FIRST)
    for volume_id in (instance.volume_id, data.id):
        instances.wait_writes(instance, volume_id)
    instances.conclude(instance, data.id)


def test_evacuation_of_a_host_that_is_cut_off_and_returns(
    instances: Instances, cinder: CinderClient, cluster: InnerCluster, hosts: list[ComputeHost]
) -> None:
    dead, other = hosts
    instance = instances.boot("evacuated", FIRST)
    data = cinder.create_volume(1)
    instances.attach(instance, data.id)
    dead.cut_off()
    try:
        instances.evacuate(instance, FIRST, SECOND)
        for volume_id in (instance.volume_id, data.id):
            instances.wait_writes(instance, volume_id)
            assert cluster.host_nqns(volume_id) == {other.guest.host_nqn}
    finally:
        dead.reconnect()
    # The instance on the first host still runs; its writes must not reach the volumes.
    instances.wait_writes(instance, data.id)
    dead.kill(COMPUTE)
    dead.start_compute()
    instances.revive(FIRST)
    wait_until(
        lambda: not dead.virsh("list", "--all", "--name").split() and not dead.leftovers(),
        f"{FIRST} to be clean again",
        RETURN_SECONDS,
    )
    instances.conclude(instance, data.id)


def test_nova_compute_dies_in_the_midst_of_an_attach(
    instances: Instances, cinder: CinderClient, cluster: InnerCluster, hosts: list[ComputeHost]
) -> None:
    host = hosts[0]
    instance = instances.boot("interrupted", FIRST)
    data = cinder.create_volume(1)
    instances.ask_attach(instance, data.id)
    wait_until(lambda: cluster.host_nqns(data.id), "the attach to have reached the cluster", 120)
    host.kill(COMPUTE)
    host.start_compute()
    instances.wait_host(FIRST)
    instances.wait_writes(instance)
    # Nova keeps no connection of an attach that did not end, so it cannot detach the volume.
    instances.conclude(instance)
    wait_until(lambda: cinder.volume(data.id).status == "available", "the volume to be free")
    assert cluster.host_nqns(data.id) == set()
    successor = instances.boot("successor", FIRST)
    instances.attach(successor, data.id)
    instances.conclude(successor, data.id)


def test_a_volume_is_taken_by_force_from_a_host_that_is_cut_off(
    cloud: Cloud,
    instances: Instances,
    cinder: CinderClient,
    cluster: InnerCluster,
    hosts: list[ComputeHost],
) -> None:
    instance = instances.boot("robbed", FIRST)
    before = hosts[0].block_devices()
    data = cinder.create_volume(1)
    instances.attach(instance, data.id)
    (attachment,) = (found for found in cinder.attachments() if found.volume_id == data.id)
    service = connect(cloud.deployment, username=USER, project=SERVICE_PROJECT)
    hosts[0].cut_off()
    try:
        with pytest.raises(ConflictException):  # Nova says that an instance has it
            cinder.force_detach(data.id, attachment.id)
        cinder.force_detach(data.id, attachment.id, service_token=service.auth_token)
        assert cluster.host_nqns(data.id) == set()
        written = instances.check(instance, data.id)
    finally:
        hosts[0].reconnect()
    wait_until(lambda: hosts[0].block_devices() == before, "the device to be gone", RETURN_SECONDS)
    instances.conclude(instance)  # though the device and Cinder's attachment have gone
    assert instances.check(instance, data.id) == written


def test_a_volume_whose_device_has_gone_is_detached(
    instances: Instances, cinder: CinderClient, cluster: InnerCluster, hosts: list[ComputeHost]
) -> None:
    instance = instances.boot("bereft", FIRST)
    before = hosts[0].block_devices()
    data = cinder.create_volume(1)
    instances.attach(instance, data.id)
    # One that runs could be paused by QEMU: a write to a device that has gone ends with ENOSPC.
    instances.stop(instance)
    cluster.refuse_hosts(data.id)
    wait_until(lambda: hosts[0].block_devices() == before, "the device to be gone")
    instances.detach(instance, data.id)
    instances.check(instance, data.id)
    instances.start(instance)
    instances.conclude(instance)
