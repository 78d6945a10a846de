# SPDX-License-Identifier: Apache-2.0
"""What Cinder may take over, and what its lists say of the rest."""

import pytest

from lightos.api.models.snapshots import Snapshot, SnapshotState
from lightos.api.models.volumes import UpdateVolume, Volume, VolumeState
from lightos.openstack.cinder import manage, volume_types
from lightos.openstack.cinder.manage import Identity, InvalidReference, Managed, Reference
from lightos.openstack.cinder.naming import ProviderId
from lightos.openstack.cinder.qos import PolicyRef

GIB = 2**30
UUID = "7d1f0f2f-1c1c-4d57-9a83-0d2c3d1a8a52"
OTHER_UUID = "7d1f0f2f-1c1c-4d57-9a83-0d2c3d1a8a53"
NOTHING = Managed.of([])


def volume(**fields):
    return Volume(
        **{
            "uuid": UUID,
            "name": "data",
            "project": "default",
            "state": VolumeState.AVAILABLE,
            "size_bytes": 2 * GIB,
            "replica_count": 3,
            "acl": ("ALLOW_NONE",),
        }
        | fields
    )


def snapshot(**fields):
    return Snapshot(
        **{
            "uuid": OTHER_UUID,
            "name": "before",
            "project": "default",
            "state": SnapshotState.AVAILABLE,
            "size_bytes": GIB,
            "source_volume_uuid": UUID,
            "source_volume_name": "data",
        }
        | fields
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"source-name": "data"}, Reference("default", name="data")),
        ({"source-id": UUID}, Reference("default", uuid=UUID)),
        ({"source-id": UUID, "project": "tenant"}, Reference("tenant", uuid=UUID)),
        ({"source-id": None, "source-name": "data"}, Reference("default", name="data")),
    ],
)
def test_references(given, expected):
    assert Reference.parse(given, "default") == expected


@pytest.mark.parametrize(
    "given",
    [
        None,
        "data",
        {},
        {"source-name": ""},
        {"source-name": "data", "source-id": UUID},
        {"source-id": "../volumes"},
        {"name": "data"},
        {"source-name": "data", "pool": "x"},
    ],
)
def test_bad_references_say_what_is_legal(given):
    with pytest.raises(InvalidReference, match="source-id"):
        Reference.parse(given, "default")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, ""),
        ({"state": VolumeState.MIGRATING}, ""),
        ({"state": VolumeState.UPDATING}, "Updating"),
        ({"acl": ("nqn.host",)}, "nqn.host"),
        ({"acl": ("ALLOW_ANY",)}, "ALLOW_ANY"),
        ({"size_bytes": GIB + 4096}, "extend it to 2 GiB"),
        ({"size_bytes": 0}, "not whole GiB"),
    ],
)
def test_volumes_that_may_be_taken_over(fields, reason):
    found = manage.obstacle(volume(**fields))
    assert reason in found
    assert bool(found) is bool(reason)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, ""),
        ({"state": SnapshotState.CREATING}, "Creating"),
        ({"size_bytes": 4096}, "not whole GiB"),
        ({"name": f"for_clone_{UUID}"}, "serves a clone"),
        ({"name": f"for_image_{UUID}_{UUID}"}, "serves a clone or an image"),
    ],
)
def test_snapshots_that_may_be_taken_over(fields, reason):
    found = manage.snapshot_obstacle(snapshot(**fields))
    assert reason in found
    assert bool(found) is bool(reason)


def check(extra_specs, **fields):
    specs = volume_types.parse(extra_specs, default_replica_count=2, default_compression=True)
    manage.check_type(volume(**fields), extra_specs, specs)


def test_what_a_type_leaves_open_may_be_any():
    check({})
    check({"lightos:num_replicas": "3", "compression": "<is> False"})
    check({"lightos:project_name": "tenant"}, project="tenant")


@pytest.mark.parametrize(
    ("extra_specs", "named"),
    [
        ({"lightos:num_replicas": "1"}, "lightos:num_replicas is 1, but the volume has 3"),
        ({"compression": "<is> True"}, "compression is True"),
        ({"lightos:project_name": "tenant"}, "in project tenant, this one is in default"),
    ],
)
def test_a_mismatch_names_what_differs(extra_specs, named):
    with pytest.raises(manage.TypeMismatch, match=named):
        check(extra_specs)


def test_taking_over_is_one_change():
    policy = PolicyRef(uuid=UUID)
    assert manage.take_over(volume(), "volume-1", None) == UpdateVolume(new_name="volume-1")
    assert manage.take_over(volume(), "volume-1", policy) == UpdateVolume(
        new_name="volume-1", qos_policy_uuid=UUID
    )
    assert (
        manage.take_over(volume(name="volume-1", qos_policy_uuid=UUID), "volume-1", policy) is None
    )


def test_what_cinder_has_is_known_by_uuid_or_else_by_name():
    managed = Managed.of(
        [
            (ProviderId("default", UUID), "volume-1", "id-1"),
            (ProviderId("default"), "volume-2", "id-2"),
        ]
    )
    assert managed.id_of(Identity("default", UUID, "any")) == "id-1"
    assert managed.id_of(Identity("default", OTHER_UUID, "volume-2")) == "id-2"
    assert managed.id_of(Identity("tenant", OTHER_UUID, "volume-2")) is None
    # The UUID is another one, so this only has the name that the managed one had.
    assert managed.id_of(Identity("default", OTHER_UUID, "volume-1")) is None


def test_a_manageable_volume_in_the_list():
    assert manage.volume_entry(volume(), NOTHING) == {
        "reference": {"source-id": UUID},
        "size": 2,
        "safe_to_manage": True,
        "reason_not_safe": None,
        "cinder_id": None,
        "extra_info": {"name": "data", "project": "default"},
    }


def test_others_have_a_reason_in_the_list():
    managed = Managed.of([(ProviderId("default", UUID), "volume-1", "id-1")])
    entry = manage.volume_entry(volume(), managed)
    assert (entry["safe_to_manage"], entry["cinder_id"]) == (False, "id-1")
    assert "already" in entry["reason_not_safe"]
    entry = manage.volume_entry(volume(size_bytes=GIB + 1), NOTHING)
    assert (entry["safe_to_manage"], entry["size"]) == (False, 2)
    assert "GiB" in entry["reason_not_safe"]


def test_snapshots_in_the_list():
    volumes = Managed.of([(ProviderId("default", UUID), "volume-1", "id-1")])
    entry = manage.snapshot_entry(snapshot(), NOTHING, volumes)
    assert entry["safe_to_manage"] is True
    assert entry["source_reference"] == {"source-id": UUID}
    entry = manage.snapshot_entry(snapshot(), NOTHING, NOTHING)
    assert entry["safe_to_manage"] is False
    assert "does not manage its volume data" in entry["reason_not_safe"]
