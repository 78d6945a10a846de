# SPDX-License-Identifier: Apache-2.0
"""Defects of attaching and detaching: who may reach a volume."""

from __future__ import annotations

from bench.defects.bed import HOST_A, HOST_B, Bed, outcome
from bench.defects.defect import Observation, defect
from bench.defects.evidence import error_of
from testbed.cluster import connector

SHARED_ADDRESS = "172.17.0.1"


@defect("4", "a detach that cannot take the access away succeeds, and the host keeps it")
def detach_refused(bed: Bed) -> Observation:
    bed.start()
    volume = bed.cinder.create_volume()
    attachment, _ = bed.cinder.attach(volume.id, HOST_A)
    with bed.fault("UpdateVolume", status=403, count=0):
        error = error_of(bed.cinder.detach, attachment)
    kept = HOST_A["nqn"] in bed.host_nqns(volume.id)
    return Observation(
        not error and kept, f"{outcome(error)}; the host {'has' if kept else 'has no'} access"
    )


@defect("5", "a connector without nqn, not forced, takes every host's access away")
def detach_without_nqn(bed: Bed) -> Observation:
    bed.start()
    volume = bed.cinder.create_volume()
    bed.cinder.attach(volume.id, HOST_A)
    error = error_of(bed.cinder.terminate_connection, volume.id, {"host": "compute-c"})
    kept = HOST_A["nqn"] in bed.host_nqns(volume.id)
    return Observation(
        not kept, f"{outcome(error)}; the attached host {'keeps' if kept else 'lost'} its access"
    )


@defect("6a", "of two instances with one volume on one host, detaching one cuts the other off")
def two_instances(bed: Bed) -> Observation:
    bed.start()
    volume = bed.cinder.create_volume(multiattach=True)
    one, _ = bed.cinder.attach(volume.id, HOST_A)
    bed.cinder.attach(volume.id, HOST_A)
    bed.cinder.detach(one)
    return _of_the_attached(bed, volume.id)


@defect("6b", "Cinder's own copy on a host cuts off the instance that has the volume there")
def own_copy(bed: Bed) -> Observation:
    bed.start()
    volume = bed.cinder.create_volume()
    bed.cinder.attach(volume.id, HOST_A)
    own = {name: value for name, value in HOST_A.items() if name != "mode"}
    bed.cinder.initialize_connection(volume.id, own)
    bed.cinder.terminate_connection(volume.id, own)
    return _of_the_attached(bed, volume.id)


def _of_the_attached(bed: Bed, volume_id: str) -> Observation:
    kept = HOST_A["nqn"] in bed.host_nqns(volume_id)
    left = len(bed.cinder.attachments(volume_id))
    return Observation(
        not kept,
        f"Cinder has {left} attachment; its host {'has' if kept else 'has no'} access",
    )


@defect("7", "an attach that fails after the access was given leaves the host in the ACL")
def attach_failed(bed: Bed) -> Observation:
    bed.start()
    volume = bed.cinder.create_volume()
    # The second look is the one after the write.
    with bed.fault("GetVolume", status=401, first=2):
        error = error_of(bed.cinder.attach, volume.id, HOST_A)
    left = HOST_A["nqn"] in bed.host_nqns(volume.id)
    return Observation(
        bool(error) and left,
        f"{outcome(error)}; the host {'has' if left else 'has no'} access",
    )


@defect("10a", "with more than 16 addresses, one host's attach evicts another's")
def addresses_evicted(bed: Bed) -> Observation:
    bed.start()
    volume = bed.cinder.create_volume(multiattach=True)
    first = HOST_A | {"host_ips": [f"192.168.75.{n}" for n in range(100, 116)]}
    second = HOST_B | {"host_ips": [f"192.168.76.{n}" for n in range(100, 116)]}
    bed.cinder.attach(volume.id, first)
    before = bed.ip_acl(volume.id)
    error = error_of(bed.cinder.attach, volume.id, second)
    evicted = before - bed.ip_acl(volume.id)
    return Observation(
        bool(evicted), f"{outcome(error)}; the first host lost {len(evicted)} of {len(before)}"
    )


@defect("10b", "detaching a host takes away addresses that another attached host shares")
def shared_address_removed(bed: Bed) -> Observation:
    bed.start()
    volume = bed.cinder.create_volume(multiattach=True)
    one, _ = bed.cinder.attach(volume.id, _with_shared_address(HOST_A))
    bed.cinder.attach(volume.id, _with_shared_address(HOST_B))
    bed.cinder.detach(one)
    kept = SHARED_ADDRESS in bed.ip_acl(volume.id)
    return Observation(not kept, f"the shared address {'is' if kept else 'is not'} in the IP ACL")


def _with_shared_address(host: dict[str, object]) -> dict[str, object]:
    return host | {"host_ips": [host["ip"], SHARED_ADDRESS]}


@defect("10c", "ALLOW_ANY stays in the IP ACL after lightos_use_ipacl is switched on")
def filter_switched_on(bed: Bed) -> Observation:
    bed.start(lightos_use_ipacl=False)
    volume = bed.cinder.create_volume(multiattach=True)
    bed.cinder.attach(volume.id, HOST_A)
    bed.start(lightos_use_ipacl=True)
    error = error_of(bed.cinder.attach, volume.id, HOST_B)
    is_open = "ALLOW_ANY" in bed.ip_acl(volume.id)
    return Observation(
        is_open, f"{outcome(error)}; the IP ACL is {'open to any' if is_open else 'closed'}"
    )


@defect("11a", "a node added while it runs never reaches hosts")
def node_added(bed: Bed) -> Observation:
    bed.start()
    volume = bed.cinder.create_volume()
    address = bed.spare_address
    name = bed.faults.add_node(address)
    try:
        return _told(bed, volume.id, address)
    finally:
        bed.faults.remove_node(name)


@defect("11b", "a node's new address never reaches hosts")
def node_moved(bed: Bed) -> Observation:
    bed.start()
    volume = bed.cinder.create_volume()
    name, address = bed.second_node
    bed.faults.move_node(name, bed.spare_address)
    try:
        return _told(bed, volume.id, bed.spare_address)
    finally:
        bed.faults.move_node(name, address)


def _told(bed: Bed, volume_id: str, address: str) -> Observation:
    bed.cinder.stats()  # as Cinder asks every minute
    _, info = bed.cinder.attach(volume_id, connector("compute-d", number=4))
    told = sorted(info["lightos_nodes"])
    missing = address not in told
    return Observation(
        missing, f"{address} {'missing in' if missing else 'among'} {', '.join(told)}"
    )
