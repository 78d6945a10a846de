# SPDX-License-Identifier: Apache-2.0
"""What becomes of a volume's bytes, and of the cluster's volume, in the operations on it."""

from __future__ import annotations

import pytest
from openstack.block_storage.v3._proxy import Proxy
from openstack.block_storage.v3.volume import Volume

from testbed.cinder.client import CinderClient
from testbed.cloud.cinder import BACKENDS
from testbed.cloud.disk import Content, Disks, InnerCluster
from testbed.cluster import GIB
from testbed.polling import wait_until

MOVE_SECONDS = 600
ANY_BACK_END = "__DEFAULT__"
"""A type that asks for nothing; the cloud's own default type asks for the first back end."""


@pytest.mark.parametrize("size_gib", [1, 2])
def test_volume_from_a_snapshot(cinder: CinderClient, disks: Disks, size_gib: int) -> None:
    before, after = Content.of("before"), Content.of("after")
    volume = cinder.create_volume(1)
    disks.write(volume.id, before)
    snapshot = cinder.create_snapshot(volume.id)
    disks.write(volume.id, after)

    copy = cinder.create_volume(size_gib, snapshot=snapshot)

    assert disks.sha256(copy.id) == before.sha256(size_gib * GIB)
    assert disks.sha256(volume.id) == after.sha256(GIB)


def test_larger_clone_of_an_attached_volume(cinder: CinderClient, disks: Disks) -> None:
    before, after = Content.of("before"), Content.of("after")
    volume = cinder.create_volume(1)
    with disks.attached(volume.id) as disk:
        disk.write(before)
        clone = cinder.create_volume(2, source=cinder.volume(volume.id))
        disk.write(after)
        assert disk.sha256() == after.sha256(GIB)

    assert disks.sha256(clone.id) == before.sha256(2 * GIB)


def test_revert_of_an_extended_volume(storage: Proxy, cinder: CinderClient, disks: Disks) -> None:
    before, after = Content.of("before", 2 * GIB), Content.of("after", 2 * GIB)
    volume = cinder.create_volume(1)
    cinder.extend_volume(volume.id, 2)
    disks.write(volume.id, before)
    snapshot = cinder.create_snapshot(volume.id)
    disks.write(volume.id, after)

    storage.revert_volume_to_snapshot(volume.id, snapshot)
    storage.wait_for_status(storage.get_volume(volume.id), failures=["error"])
    storage.wait_for_status(storage.get_snapshot(snapshot.id), failures=["error"])

    assert disks.sha256(volume.id) == before.sha256(2 * GIB)


def test_unmanaged_volume_is_managed_again(
    storage: Proxy, cinder: CinderClient, cluster: InnerCluster, disks: Disks
) -> None:
    content = Content.of("managed")
    volume = cinder.create_volume(1)
    disks.write(volume.id, content)
    snapshot = cinder.create_snapshot(volume.id)
    (before,), (snapshot_before,) = cluster.volumes(), cluster.snapshots()

    storage.unmanage_snapshot(snapshot)
    storage.wait_for_delete(snapshot)
    storage.unmanage_volume(volume)
    storage.wait_for_delete(volume)
    managed = storage.manage_volume(
        host=volume.host, ref={"source-name": before["name"]}, volume_type=volume.volume_type
    )
    storage.wait_for_status(managed, failures=["error_managing"])
    managed_snapshot = storage.manage_snapshot(
        volume_id=managed.id, ref={"source-name": snapshot_before["name"]}
    )
    storage.wait_for_status(managed_snapshot, failures=["error_managing"])

    assert cluster.volume_of(managed.id)["UUID"] == before["UUID"]
    assert [found["UUID"] for found in cluster.snapshots()] == [snapshot_before["UUID"]]
    assert disks.sha256(managed.id) == content.sha256(GIB)


def test_migration_inside_the_cluster_copies_nothing(
    storage: Proxy, cinder: CinderClient, cluster: InnerCluster, disks: Disks
) -> None:
    content = Content.of("migrated")
    volume = cinder.create_volume(1, volume_type=storage.find_type(ANY_BACK_END))
    disks.write(volume.id, content)
    before = cluster.volume_of(volume.id)

    moved = migrate(storage, volume.id, other_pool(volume.host))

    assert cluster.volume_of(moved.id)["UUID"] == before["UUID"]
    assert disks.sha256(moved.id) == content.sha256(GIB)


def test_migration_by_the_host_copies_every_byte(
    storage: Proxy, cinder: CinderClient, cluster: InnerCluster, disks: Disks
) -> None:
    content = Content.of("copied")
    volume = cinder.create_volume(1, volume_type=storage.find_type(ANY_BACK_END))
    disks.write(volume.id, content)
    before = cluster.volume_of(volume.id)

    moved = migrate(storage, volume.id, other_pool(volume.host), force_host_copy=True)

    (found,) = cluster.volumes()  # under the name it was made with: the source had the other one
    assert found["UUID"] != before["UUID"]
    assert disks.sha256(moved.id) == content.sha256(GIB)


def test_retype_to_the_other_back_end_copies_nothing(
    storage: Proxy, cinder: CinderClient, cluster: InnerCluster, disks: Disks
) -> None:
    content = Content.of("retyped")
    volume = cinder.create_volume(1)
    disks.write(volume.id, content)
    before = cluster.volume_of(volume.id)

    storage.retype_volume(volume, "lightos-2", migration_policy="on-demand")
    wait_until(
        lambda: storage.get_volume(volume.id).volume_type == "lightos-2",
        f"volume {volume.id} to be retyped",
        MOVE_SECONDS,
    )
    moved = storage.wait_for_status(storage.get_volume(volume.id), failures=["error"])

    assert moved.host == other_pool(volume.host)
    assert cluster.volume_of(volume.id)["UUID"] == before["UUID"]
    assert disks.sha256(volume.id) == content.sha256(GIB)


def other_pool(host: str) -> str:
    """The pool of the other back end; both are the same cluster."""
    (other,) = (name for name in BACKENDS if name not in host)
    return f"{host.partition('@')[0]}@{other}#{other}"


def migrate(storage: Proxy, volume_id: str, host: str, *, force_host_copy: bool = False) -> Volume:
    storage.migrate_volume(volume_id, host=host, force_host_copy=force_host_copy)

    def settled() -> bool:
        found = storage.get_volume(volume_id)
        assert found.migration_status != "error", f"migration of {volume_id} to {host}"
        return found.migration_status == "success" and found.status == "available"

    wait_until(settled, f"volume {volume_id} to move to {host}", MOVE_SECONDS, pause=1)
    found = storage.get_volume(volume_id)
    assert found.host == host
    return found
