# SPDX-License-Identifier: Apache-2.0
"""Volumes and snapshots of the cluster that Cinder takes over, lists, and lets go again."""

import uuid
from types import SimpleNamespace

import pytest
from cinder import context, exception, objects
from cinder.db import api as db

from lightos.api.models.snapshots import CreateSnapshot, SnapshotState
from lightos.api.models.volumes import CreateVolume, UpdateVolume
from lightos.openstack.cinder import records
from testbed.cluster import GIB, connector
from tests.unit.cinder.conftest import HOST as THIS_BACK_END
from tests.unit.cinder.conftest import new_snapshot, new_volume, store

HOST = connector("compute1", number=1)
ANOTHER_BACK_END = "controller-1@other#other"
INVALID = exception.ManageExistingInvalidReference


@pytest.fixture
def existing(driver):
    """Make a volume as an administrator would, with no trace of Cinder."""

    def make(name=None, *, size_bytes=GIB, acl=("ALLOW_NONE",), replica_count=2, **fields):
        request = CreateVolume(
            name=name or f"data-{uuid.uuid4()}",
            size_bytes=size_bytes,
            replica_count=replica_count,
            acl=acl,
            **fields,
        )
        return driver._cluster.create_volume("default", request, driver._deadline())

    return make


@pytest.fixture
def existing_snapshot(driver):
    def make(source_uuid):
        request = CreateSnapshot(name=f"before-{uuid.uuid4()}", source_volume_uuid=source_uuid)
        return driver._cluster.create_snapshot("default", request, driver._deadline())

    return make


def store_snapshot(snapshot):
    values = {
        "id": snapshot.id,
        "status": "available",
        "provider_id": snapshot.provider_id,
        "volume_id": snapshot.volume_id,
        "volume_size": snapshot.volume_size,
        "volume_type_id": str(uuid.uuid4()),
    }
    db.snapshot_create(context.get_admin_context(), values)


def page(driver, cinder_volumes=(), **changes):
    wanted = {
        "marker": None,
        "limit": 1000,
        "offset": None,
        "sort_keys": ["size", "reference"],
        "sort_dirs": ["desc", "asc"],
    } | changes
    return driver.get_manageable_volumes(list(cinder_volumes), *wanted.values())


def entry_of(entries, found):
    (entry,) = (e for e in entries if e["reference"] == {"source-id": found.uuid})
    return entry


# --- volumes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["source-name", "source-id"])
def test_manage_gives_the_volume_its_name(driver, cluster, existing, by):
    found = existing(size_bytes=3 * GIB)
    volume = new_volume()
    reference = {by: found.name if by == "source-name" else found.uuid}
    assert driver.manage_existing_get_size(volume, reference) == 3
    update = driver.manage_existing(volume, reference)
    assert update == {"provider_id": f"default {found.uuid}"}
    assert cluster.volume_of(volume.id)["UUID"] == found.uuid

    volume.update(update)
    volume.size = 3
    store(volume)
    driver.initialize_connection(volume, HOST)
    driver.terminate_connection(volume, HOST)
    driver.unmanage(volume)
    db.volume_destroy(context.get_admin_context(), volume.id)
    assert cluster.volume_of(volume.id)["UUID"] == found.uuid

    again = new_volume()
    again.update(driver.manage_existing(again, {"source-name": volume.name}))
    driver.delete_volume(again)
    assert all(found.uuid != v["UUID"] for v in cluster.volumes())


def test_manage_whose_reply_was_lost(driver, cluster, existing, faults):
    found = existing()
    volume = new_volume()
    faults.add(operation="UpdateVolume", lose_reply=True)
    driver.manage_existing(volume, {"source-id": found.uuid})
    assert cluster.volume_of(volume.id)["UUID"] == found.uuid


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ({"source-name": "nowhere"}, "does not exist"),
        ({"source-id": str(uuid.uuid4())}, "does not exist"),
        ({"source-name": "x", "project": "nowhere"}, "nowhere"),
        ({"source-id": "x"}, "not a UUID"),
        ("data", "source-id"),
    ],
)
def test_references_to_nothing(driver, reference, reason):
    for method in (driver.manage_existing, driver.manage_existing_get_size):
        with pytest.raises(INVALID, match=reason):
            method(new_volume(), reference)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"acl": (HOST["nqn"],)}, HOST["nqn"]),
        ({"acl": ("ALLOW_ANY",)}, "ALLOW_ANY"),
        ({"size_bytes": GIB + 4096}, "extend it to 2 GiB"),
    ],
)
def test_what_may_not_be_taken_over_stays_as_it_is(driver, cluster, existing, fields, reason):
    found = existing(**fields)
    reference = {"source-id": found.uuid}
    for method in (driver.manage_existing, driver.manage_existing_get_size):
        with pytest.raises(INVALID, match=reason):
            method(new_volume(), reference)
    assert found.name in {volume["name"] for volume in cluster.volumes()}
    assert entry_of(page(driver), found)["safe_to_manage"] is False


@pytest.mark.parametrize(
    ("extra_specs", "named"),
    [
        ({"lightos:num_replicas": "1"}, "lightos:num_replicas is 1, but the volume has 2"),
        ({"compression": "<is> True"}, "compression is True"),
    ],
)
def test_a_volume_that_is_not_of_the_type(driver, existing, extra_specs, named):
    reference = {"source-id": existing().uuid}
    volume = new_volume(extra_specs=extra_specs)
    with pytest.raises(exception.ManageExistingVolumeTypeMismatch, match=named):
        driver.manage_existing(volume, reference)


def test_a_volume_that_is_managed_already(driver, created):
    """By whichever back end: Cinder's database knows."""
    volume = created()
    store(volume, host=ANOTHER_BACK_END)
    reference = {"source-id": volume.provider_id.split()[1]}
    with pytest.raises(exception.ManageExistingAlreadyManaged):
        driver.manage_existing(new_volume(), reference)


def test_a_volume_that_an_old_driver_made_is_managed_already(driver, created):
    volume = created()
    uuid = volume.provider_id.split()[1]
    volume.provider_id = "default"
    store(volume, host=ANOTHER_BACK_END)
    with pytest.raises(exception.ManageExistingAlreadyManaged):
        driver.manage_existing(new_volume(), {"source-id": uuid})


def test_of_two_who_take_one_volume_over_at_once_one_is_refused(driver, cluster, existing, faults):
    found = existing()
    first, second = new_volume(), new_volume()
    for each in (first, second):
        store(each, status="managing")
    reference = {"source-id": found.uuid}

    with (
        faults.just_before(
            lambda: driver.manage_existing(first, reference), operation="UpdateVolume"
        ),
        pytest.raises(INVALID, match="renamed meanwhile"),
    ):
        driver.manage_existing(second, reference)
    assert cluster.volume_of(first.id)["UUID"] == found.uuid
    with pytest.raises(exception.ManageExistingAlreadyManaged):
        driver.manage_existing(second, reference)


def test_a_host_that_comes_meanwhile_keeps_the_volume_from_being_taken_over(
    driver, cluster, existing, faults
):
    found = existing()

    def let_a_host_in():
        admit = UpdateVolume(acl=(HOST["nqn"],))
        driver._client.update_volume("default", found.uuid, admit, driver._deadline())

    with (
        faults.just_before(let_a_host_in, operation="UpdateVolume"),
        pytest.raises(INVALID, match=HOST["nqn"]),
    ):
        driver.manage_existing(new_volume(), {"source-id": found.uuid})
    assert found.name in {volume["name"] for volume in cluster.volumes()}


def test_a_failed_take_over_never_deletes_the_volume(driver, cluster, existing, faults):
    """It was renamed, but nobody heard; Cinder then deletes the record that it made for it."""
    found = existing()
    volume = new_volume()
    with (
        faults.during(operation="GetVolume", status=401, first=3, count=0),
        pytest.raises(exception.VolumeBackendAPIException),
    ):
        driver.manage_existing(volume, {"source-id": found.uuid})
    assert cluster.volume_of(volume.id)["UUID"] == found.uuid
    volume.status = "error_managing_deleting"
    driver.delete_volume(volume)
    assert cluster.volume_of(volume.id)["UUID"] == found.uuid


# --- lists ---------------------------------------------------------------------------------------


def test_the_list_tells_what_is_whose(driver, created, existing):
    free, mine, others = existing(size_bytes=2 * GIB), created(), created()
    for volume in (mine, others):
        store(volume, host=ANOTHER_BACK_END)
    entries = page(driver)
    assert entry_of(entries, free) == {
        "reference": {"source-id": free.uuid},
        "size": 2,
        "safe_to_manage": True,
        "reason_not_safe": None,
        "cinder_id": None,
        "extra_info": {"name": free.name, "project": "default"},
    }
    for volume in (mine, others):
        found = SimpleNamespace(uuid=volume.provider_id.split()[1])
        assert entry_of(entries, found)["cinder_id"] == volume.id
    assert [entry["size"] for entry in entries] == sorted(
        (entry["size"] for entry in entries), reverse=True
    )


def test_pages_follow_each_other(driver, existing):
    for _ in range(3):
        existing()
    whole = page(driver)
    shown, marker = [], None
    while entries := page(driver, marker=marker, limit=2):
        shown += entries
        marker = entries[-1]["reference"]
    assert shown == whole
    assert page(driver, offset=1, limit=2) == whole[1:3]


def test_cinder_takes_the_entries_for_its_own_objects(driver, existing):
    existing()
    entries = page(driver)
    found = objects.ManageableVolumeList.from_primitives(context.get_admin_context(), entries)
    assert [volume.reference for volume in found] == [entry["reference"] for entry in entries]


def test_the_list_of_a_token_that_may_not_list_projects(driver, existing, faults):
    found = existing()
    faults.add(operation="ListProjects", status=403)
    assert entry_of(page(driver), found)["safe_to_manage"] is True


def test_the_projects_of_a_back_end():
    for place, values in (
        ("live 1", {}),
        ("gone 2", {}),
        ("other 3", {"host": ANOTHER_BACK_END}),
    ):
        volume = new_volume(provider_id=place)
        store(volume, **values)
        if place.startswith("gone"):
            db.volume_destroy(context.get_admin_context(), volume.id)
    back_end = {"host": THIS_BACK_END, "cluster_name": None}
    projects = records.projects(**back_end)
    assert {"default", "live"} <= projects
    assert not {"gone", "other"} & projects
    assert "gone" in records.projects(**back_end, with_deleted=True)


# --- snapshots -----------------------------------------------------------------------------------


def test_manage_a_snapshot(driver, created, cluster, existing_snapshot):
    volume = created()
    found = existing_snapshot(volume.provider_id.split()[1])
    snapshot = new_snapshot(volume)
    reference = {"source-name": found.name}
    assert driver.manage_existing_snapshot_get_size(snapshot, reference) == 1
    snapshot.update(driver.manage_existing_snapshot(snapshot, reference))
    assert snapshot.provider_id == f"default {found.uuid}"

    clone = new_volume()
    driver.create_volume_from_snapshot(clone, snapshot)
    assert cluster.volume_of(clone.id)["sourceSnapshotUUID"] == found.uuid
    driver.unmanage_snapshot(snapshot)
    assert [s["UUID"] for s in cluster.snapshots()] == [found.uuid]
    driver.delete_volume(clone)
    driver.delete_snapshot(snapshot)
    assert cluster.snapshots() == []


def test_snapshots_that_may_not_be_taken_over(driver, created, existing_snapshot):
    volume, other = created(), created()
    found = existing_snapshot(volume.provider_id.split()[1])
    by_uuid = {"source-id": found.uuid}
    for snapshot, reference, reason in (
        (new_snapshot(volume), {"source-name": "nowhere"}, "does not exist"),
        (new_snapshot(other), by_uuid, f"snapshot of volume {volume.name}"),
        (new_snapshot(volume), {"source-id": "1"}, "not a UUID"),
    ):
        with pytest.raises(INVALID, match=reason):
            driver.manage_existing_snapshot(snapshot, reference)
    managed = new_snapshot(volume)
    managed.provider_id = f"default {found.uuid}"
    store(volume, host=ANOTHER_BACK_END)
    store_snapshot(managed)
    with pytest.raises(INVALID, match="already"):
        driver.manage_existing_snapshot(new_snapshot(volume), by_uuid)
    driver.delete_snapshot(managed)


def test_a_snapshot_that_an_old_driver_made_is_managed_already(driver, created, cluster):
    """They recorded nothing of a snapshot."""
    volume = created()
    store(volume, host=ANOTHER_BACK_END)
    known = new_snapshot(volume)
    driver.create_snapshot(known)
    store_snapshot(known)
    (found,) = cluster.snapshots()
    (entry,) = driver.get_manageable_snapshots([], None, 1000, None, ["reference"], ["asc"])
    assert (entry["cinder_id"], entry["safe_to_manage"]) == (known.id, False)
    with pytest.raises(INVALID, match="already"):
        driver.manage_existing_snapshot(new_snapshot(volume), {"source-id": found["UUID"]})
    driver.delete_snapshot(known)


def test_the_list_of_snapshots(driver, created, existing, existing_snapshot):
    volume = created()
    store(volume, host=ANOTHER_BACK_END)
    uuid = volume.provider_id.split()[1]
    free, managed = existing_snapshot(uuid), existing_snapshot(uuid)
    orphan = existing_snapshot(existing().uuid)
    known = new_snapshot(volume)
    known.provider_id = f"default {managed.uuid}"
    store_snapshot(known)  # of another back end, so Cinder does not pass it
    entries = driver.get_manageable_snapshots([], None, 1000, None, ["reference"], ["asc"])
    assert entry_of(entries, free)["safe_to_manage"] is True
    assert entry_of(entries, free)["source_reference"] == {"source-id": uuid}
    assert entry_of(entries, managed)["cinder_id"] == known.id
    assert "does not manage" in entry_of(entries, orphan)["reason_not_safe"]
    objects.ManageableSnapshotList.from_primitives(context.get_admin_context(), entries)
    for snapshot in (free, managed, orphan):
        assert snapshot.state is SnapshotState.AVAILABLE
        driver._cluster.delete_snapshot("default", snapshot.uuid, driver._deadline())
