# SPDX-License-Identifier: Apache-2.0
"""Compute hosts that die, are cut off, or lose nova-compute in the middle of something."""

from __future__ import annotations

from testbed.cinder.client import CinderClient
from testbed.cloud.compute_host import COMPUTE, HOSTS, ComputeHost
from testbed.cloud.disk import InnerCluster
from testbed.cloud.instances import Instances
from testbed.polling import wait_until

FIRST, SECOND = HOSTS
RETURN_SECONDS = 300


def test_after_a_reboot_of_the_host_the_instance_goes_on_with_its_volumes(
    instances: Instances, cinder: CinderClient, hosts: list[ComputeHost]
) -> None:
    instance = instances.boot("rebooted", FIRST)
    data = cinder.create_volume(1)
    instances.attach(instance, data.id)
    before = instances.progress(instance, data.id)
    hosts[0].reboot()
    instances.wait_host(FIRST)
    for volume_id in (instance.volume_id, data.id):
        instances.wait_writes(instance, volume_id)
    assert instances.progress(instance, data.id).counter > before.counter
    instances.detach(instance, data.id)
    assert instances.check(instance, data.id).errors == 0
    instances.delete(instance)
    assert instances.check(instance).errors == 0


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
    instances.detach(instance, data.id)
    assert instances.check(instance, data.id).errors == 0
    instances.delete(instance)
    assert instances.check(instance).errors == 0


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
    if cinder.volume(data.id).status != "in-use":
        cinder.reset_volume_status(data.id, "in-use")  # what an administrator does
    instances.detach(instance, data.id)
    assert cluster.host_nqns(data.id) == set()
    instances.attach(instance, data.id)
    instances.detach(instance, data.id)
    assert instances.check(instance, data.id).counter > 0
    instances.delete(instance)
    assert instances.check(instance).errors == 0
