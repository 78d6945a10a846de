# SPDX-License-Identifier: Apache-2.0
"""The capacity that Cinder's scheduler is told. Pure: the cluster's numbers in, Cinder's out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lightos.api.models.cluster import ClusterStatistics

GIB = 1024**3

Unknown = Literal["unknown"]
UNKNOWN: Unknown = "unknown"


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """GiB of volume data, before replication. All or none of the figures are known."""

    total_gib: float | Unknown = UNKNOWN
    free_gib: float | Unknown = UNKNOWN
    provisioned_gib: float | None = None


def gib(size_bytes: int) -> float:
    """Bytes as GiB, two digits, never more than there is."""
    return size_bytes * 100 // GIB / 100


def capacity(statistics: ClusterStatistics | None) -> Capacity:
    """Capacity for the scheduler from the cluster's statistics.

    The logical figures are what counts: the cluster derives them from the physical space, the
    replicas and the compression it sees. A cluster that does not estimate them tells physical
    space only. A tenant's token may see no statistics at all (None here): the capacity is then
    `unknown`, so the scheduler places volumes here after any back end with known space.
    """
    if statistics is None:
        return Capacity()
    if statistics.estimated_logical_bytes:
        total_bytes = statistics.estimated_logical_bytes
        free_bytes = statistics.estimated_free_logical_bytes
    elif statistics.effective_physical_bytes:
        total_bytes = statistics.effective_physical_bytes
        free_bytes = statistics.free_physical_bytes
    else:
        return Capacity()
    return Capacity(
        total_gib=gib(total_bytes),
        free_gib=gib(min(free_bytes, total_bytes)),
        provisioned_gib=gib(statistics.logical_bytes),
    )
