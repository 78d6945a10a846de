# SPDX-License-Identifier: Apache-2.0
"""Capacity for the scheduler. Defect 15: real totals, and no infinity."""

import pytest

from lightos.api.models.cluster import ClusterStatistics
from lightos.openstack.cinder.capacity import GIB, Capacity, capacity, gib


@pytest.mark.parametrize(
    ("statistics", "expected"),
    [
        (None, Capacity()),
        (ClusterStatistics(), Capacity()),
        (
            ClusterStatistics(
                estimated_logical_bytes=1000 * GIB,
                estimated_free_logical_bytes=400 * GIB,
                logical_bytes=2000 * GIB,
                effective_physical_bytes=3000 * GIB,
                free_physical_bytes=1200 * GIB,
            ),
            Capacity(total_gib=1000, free_gib=400, provisioned_gib=2000),
        ),
        (
            ClusterStatistics(effective_physical_bytes=3000 * GIB, free_physical_bytes=1200 * GIB),
            Capacity(total_gib=3000, free_gib=1200, provisioned_gib=0),
        ),
        # A full cluster is full, not of unknown size.
        (
            ClusterStatistics(estimated_logical_bytes=GIB, logical_bytes=GIB),
            Capacity(total_gib=1, free_gib=0, provisioned_gib=1),
        ),
    ],
)
def test_capacity(statistics, expected):
    assert capacity(statistics) == expected


def test_capacity_is_never_rounded_up():
    assert gib(GIB - 1) == 0.99
    assert gib(0) == 0
