# SPDX-License-Identifier: Apache-2.0
"""Instances that move, with their volumes."""

from __future__ import annotations

from testbed.cinder.client import CinderClient
from testbed.cloud.compute_host import HOSTS, ComputeHost
from testbed.cloud.disk import InnerCluster
from testbed.cloud.instances import Instances

FIRST, SECOND = HOSTS


def test_live_migration_there_and_back_with_io_running(
    instances: Instances,
    cinder: CinderClient,
    cluster: InnerCluster,
    hosts: list[ComputeHost],
) -> None:
    instance = instances.boot("mover", FIRST)
    data = cinder.create_volume(1)
    instances.attach(instance, data.id)
    for host in (hosts[1], hosts[0]):
        with instances.watch(instance, data.id) as watch:
            seconds = instances.live_migrate(instance, host.name)
        print(
            f"live migration to {host.name}: {seconds:.1f} s, "
            f"longest stall of I/O {watch.longest_stall_seconds:.2f} s, {watch.writes} writes"
        )
        instances.wait_writes(instance, data.id)
        for volume_id in (instance.volume_id, data.id):
            assert cluster.host_nqns(volume_id) == {host.guest.host_nqn}
    assert hosts[1].leftovers() == []
    instances.detach(instance, data.id)
    assert instances.check(instance, data.id).counter > 0
    instances.delete(instance)
    assert instances.check(instance).counter > 0
