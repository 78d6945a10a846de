# SPDX-License-Identifier: Apache-2.0
"""Our Nova driver, connector and Cinder driver beside those that ship with OpenStack: what one has
attached the other takes over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import pytest

from testbed.cinder.client import CinderClient
from testbed.cloud.cloud import Cloud
from testbed.cloud.compute_host import COMPUTE, HOSTS, ComputeHost
from testbed.cloud.instances import Instances

pytestmark = pytest.mark.nightly

FIRST, _ = HOSTS
NOVA_DRIVER = "nova.virt.libvirt.volume.lightos"
CONNECTOR = "os_brick.initiator.connectors.lightos"
CINDER = "cinder.volume.drivers.lightos"
MODULES = (NOVA_DRIVER, CONNECTOR, CINDER)
OURS, INCUMBENT = "ours", "OpenStack's"
COMBINATIONS = (
    (INCUMBENT, INCUMBENT, OURS),
    (INCUMBENT, OURS, OURS),
    (OURS, INCUMBENT, INCUMBENT),
)
"""Nova's volume driver, the connector and the Cinder driver; the documentation shows them."""


@contextmanager
def their_nova(host: ComputeHost, instances: Instances, modules: Sequence[str]) -> Iterator[None]:
    """A host whose nova-compute has these modules as OpenStack ships them."""
    host.kill(COMPUTE)
    host.start_compute(modules)
    try:
        instances.wait_host(host.name)
        yield
    finally:
        host.kill(COMPUTE)
        host.start_compute()
        instances.wait_host(host.name)


@contextmanager
def their_cinder(cloud: Cloud) -> Iterator[None]:
    """cinder-volume with what OpenStack ships."""
    cloud.volume_host.attach()
    cloud.use_incumbent()
    try:
        yield
    finally:
        cloud.use_own()


@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_what_is_attached_is_detached_across_a_switch(
    cloud: Cloud,
    instances: Instances,
    cinder: CinderClient,
    hosts: list[ComputeHost],
    combination: Sequence[str],
) -> None:
    theirs = {module for module, of in zip(MODULES, combination, strict=True) if of == INCUMBENT}
    instance = instances.boot("mixed", FIRST)
    before, meanwhile = (cinder.create_volume(1) for _ in range(2))
    instances.attach(instance, before.id)
    with (
        their_cinder(cloud) if CINDER in theirs else nullcontext(),
        their_nova(hosts[0], instances, sorted(theirs - {CINDER})),
    ):
        instances.attach(instance, meanwhile.id)
        if NOVA_DRIVER not in theirs:  # theirs may take the old size for the new one
            instances.extend(instance, meanwhile.id, 2)
        instances.detach(instance, before.id)
    instances.check(instance, before.id)
    instances.conclude(instance, meanwhile.id)
