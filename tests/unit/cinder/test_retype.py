# SPDX-License-Identifier: Apache-2.0
"""What a retype changes in place, and what it takes a migration for."""

import pytest

from lightos.api.models.volumes import UpdateVolume, Volume
from lightos.openstack.cinder import retype, volume_types
from lightos.openstack.cinder.qos import NotThisPolicy, PolicyRef

VOLUME = Volume(replica_count=2, compression=False, project="default", qos_policy_uuid="a")
THREE, TWO = {"lightos:num_replicas": "3"}, {"lightos:num_replicas": "2"}
COMPRESSED, PLAIN = {"compression": "<is> True"}, {"compression": "<is> False"}
TENANT = {"lightos:project_name": "tenant"}


def wanted(new):
    return volume_types.parse(new, default_replica_count=3, default_compression=True)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ({}, {}, ""),  # the volume was made under another default
        (TWO, TWO, ""),
        ({}, TWO, ""),
        (TWO, THREE, "2 replicas, the new type asks for 3"),
        (TWO, {}, "2 replicas, the new type asks for 3"),
        (THREE, THREE, "2 replicas, the new type asks for 3"),  # the type was edited
        ({}, TENANT, "in project default, the new type's volumes are in tenant"),
        (TENANT, {}, ""),  # the volume is where the new type wants it
        ({"any": "1"}, {"any": "2"}, ""),
    ],
)
def test_obstacles(old, new, reason):
    found = retype.obstacle(VOLUME, old, new, wanted(new))
    assert reason in found
    assert bool(found) is bool(reason)


@pytest.mark.parametrize(
    ("old", "new", "policy", "change"),
    [
        ({}, {}, None, None),
        ({}, COMPRESSED, None, UpdateVolume(compression=True)),
        (COMPRESSED, PLAIN, None, None),
        (PLAIN, {}, None, UpdateVolume(compression=True)),  # to the default
        ({}, {}, PolicyRef(uuid="a"), None),
        ({}, {}, PolicyRef(uuid="b"), UpdateVolume(qos_policy_uuid="b")),
        ({}, {}, PolicyRef(), UpdateVolume(qos_policy_uuid="")),
        ({}, {}, NotThisPolicy("A"), UpdateVolume(qos_policy_uuid="")),
        ({}, {}, NotThisPolicy("b"), None),
        ({}, {}, NotThisPolicy(""), None),
        (
            {},
            COMPRESSED,
            PolicyRef(name="gold"),
            UpdateVolume(compression=True, qos_policy_name="gold"),
        ),
    ],
)
def test_changes(old, new, policy, change):
    assert retype.change(VOLUME, old, new, wanted(new), policy) == change


@pytest.mark.parametrize(
    ("before", "change"),
    [
        (VOLUME, None),
        (Volume(compression=True, qos_policy_uuid="a"), UpdateVolume(compression=True)),
        (Volume(compression=False), UpdateVolume(qos_policy_uuid="")),
        (
            Volume(compression=True, qos_policy_uuid="b"),
            UpdateVolume(compression=True, qos_policy_uuid="b"),
        ),
    ],
)
def test_what_a_failed_retype_sets_back(before, change):
    assert retype.set_back(VOLUME, before) == change
