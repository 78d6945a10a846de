# SPDX-License-Identifier: Apache-2.0
"""Our Nova driver and connector beside those that ship with Nova and os-brick: what one has
attached the other takes over, while cinder-volume stays ours."""

from __future__ import annotations

from testbed.cinder.client import CinderClient
from testbed.cloud.compute_host import COMPUTE, HOSTS, ComputeHost
from testbed.cloud.instances import Instances

FIRST, _ = HOSTS
INCUMBENT = {"LIGHTOS_OVERLAY": "0"}


def test_the_incumbents_nova_driver_and_connector_with_our_cinder_driver(
    instances: Instances, cinder: CinderClient, hosts: list[ComputeHost]
) -> None:
    host = hosts[0]
    instance = instances.boot("mixed", FIRST)
    ours, theirs = (cinder.create_volume(1) for _ in range(2))
    instances.attach(instance, ours.id)
    host.kill(COMPUTE)
    host.start_compute(INCUMBENT)
    try:
        instances.wait_host(FIRST)
        instances.attach(instance, theirs.id)
        instances.detach(instance, ours.id)
    finally:
        host.kill(COMPUTE)
        host.start_compute()
        instances.wait_host(FIRST)
    instances.detach(instance, theirs.id)
    for volume in (ours, theirs):
        assert instances.check(instance, volume.id).counter > 0
    instances.delete(instance)
    assert instances.check(instance).counter > 0
