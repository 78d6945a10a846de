# SPDX-License-Identifier: Apache-2.0
"""Instances that move, with their volumes."""

from __future__ import annotations

import pytest

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
    capsys: pytest.CaptureFixture[str],
) -> None:
    instance = instances.boot("mover", FIRST)
    data = cinder.create_volume(1)
    instances.attach(instance, data.id)
    for host in (hosts[1], hosts[0]):
        with instances.watch(instance, data.id) as watch:
            seconds = instances.live_migrate(instance, host.name)
        with capsys.disabled():
            print(
                f"\nlive migration to {host.name}: {seconds:.1f} s, "
                f"longest stall of I/O {watch.longest_stall_seconds:.2f} s, {watch.writes} writes"
            )
        assert watch.writes > 0
        instances.wait_writes(instance, data.id)
        for volume_id in (instance.volume_id, data.id):
            assert cluster.host_nqns(volume_id) == {host.guest.host_nqn}
    assert hosts[1].leftovers() == []
    instances.conclude(instance, data.id)


@pytest.mark.nightly
def test_cold_migration_resize_shelve_and_rebuild_keep_the_volumes(
    instances: Instances,
    cinder: CinderClient,
    cluster: InnerCluster,
    hosts: list[ComputeHost],
) -> None:
    nqns = {host.name: host.guest.host_nqn for host in hosts}
    instance = instances.boot("cold-mover", FIRST)
    data = cinder.create_volume(1)
    instances.attach(instance, data.id)

    def uses_both_volumes() -> None:
        here = nqns[instances.host(instance)]
        for volume_id in (instance.volume_id, data.id):
            instances.wait_writes(instance, volume_id)
            assert cluster.host_nqns(volume_id) == {here}

    instances.cold_migrate(instance, SECOND)
    assert instances.host(instance) == SECOND
    uses_both_volumes()
    instances.resize(instance, 64)
    uses_both_volumes()
    instances.shelve(instance)
    for volume_id in (instance.volume_id, data.id):
        assert cluster.host_nqns(volume_id) == set()
    instances.unshelve(instance, FIRST)
    assert instances.host(instance) == FIRST
    uses_both_volumes()
    instances.detach(instance, data.id)
    assert instances.check(instance, data.id).counter > 0
    written = instances.progress(instance).counter
    instances.rebuild(instance)
    assert instances.progress(instance).counter < written  # it begins anew
    instances.delete(instance)
    assert instances.check(instance).counter > 0
