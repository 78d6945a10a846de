# SPDX-License-Identifier: Apache-2.0
"""Defects of what the driver tells Cinder, and of its start."""

from __future__ import annotations

from bench.defects.bed import Bed, outcome
from bench.defects.defect import Observation, Place, defect


@defect(
    "12c",
    "a Cinder host without an NVMe host NQN: KeyError",
    place=Place.CINDER_WITHOUT_HOST_NQN,
)
def no_host_nqn(bed: Bed) -> Observation:
    error = bed.start_error()
    return Observation(bool(error), outcome(error))


@defect("15a", "capacity is reported as infinite, without a total")
def infinite(bed: Bed) -> Observation:
    bed.start()
    stats = bed.cinder.stats()
    free, total = stats.get("free_capacity_gb"), stats.get("total_capacity_gb")
    return Observation(
        free == "infinite" or total is None, f"free_capacity_gb {free}, total_capacity_gb {total}"
    )


@defect("15b", "QoS support is claimed, and QoS specs are ignored")
def qos_ignored(bed: Bed) -> Observation:
    bed.start()
    claimed = bed.cinder.stats().get("QoS_support")
    type_id = bed.cinder.make_type(qos_specs={"total_iops_sec": "500"})
    volume = bed.cinder.create_volume(volume_type_id=type_id)
    policy = bed.policy_of(volume.id)
    return Observation(
        bool(claimed) and not policy,
        f"QoS_support {claimed}; policy of the volume: {policy or 'none'}",
    )


@defect("15c", "the capability schema has no upper bound for replicas")
def replicas_unbounded(bed: Bed) -> Observation:
    bed.start()
    schema = bed.cinder.driver.capabilities["properties"]["lightos:num_replicas"]
    return Observation("maximum" not in schema, f"maximum: {schema.get('maximum', 'none')}")


@defect("19", "shared_targets does not apply: hosts do not serialise attach and detach")
def shared_targets(bed: Bed) -> Observation:
    bed.start()
    shared = bed.cinder.create_volume().shared_targets
    # Cinder's word for "lock always", which NVMe-oF needs, is None.
    return Observation(shared is False, f"shared_targets of a volume: {shared}")
