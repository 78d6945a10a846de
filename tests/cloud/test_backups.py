# SPDX-License-Identifier: Apache-2.0
"""cinder-backup and restore, full and incremental, byte for byte."""

from __future__ import annotations

from openstack.block_storage.v3._proxy import Proxy
from openstack.block_storage.v3.backup import Backup

from testbed.cinder.client import CinderClient
from testbed.cloud.disk import Content, Disks
from testbed.cluster import GIB

BACKUP_SECONDS = 600


def back_up(storage: Proxy, volume_id: str, *, incremental: bool = False) -> Backup:
    backup = storage.create_backup(volume_id=volume_id, is_incremental=incremental)
    return storage.wait_for_status(backup, failures=["error"], wait=BACKUP_SECONDS)


def restore(storage: Proxy, backup: Backup, volume_id: str) -> None:
    storage.restore_backup(backup.id, volume=volume_id)
    storage.wait_for_status(storage.get_backup(backup.id), failures=["error"], wait=BACKUP_SECONDS)
    storage.wait_for_status(
        storage.get_volume(volume_id), failures=["error_restoring"], wait=BACKUP_SECONDS
    )


def test_full_and_incremental_backups_come_back(
    storage: Proxy, cinder: CinderClient, disks: Disks
) -> None:
    first, second = Content.of("first"), Content.of("second")
    volume = cinder.create_volume(1)
    disks.write(volume.id, first)
    full = back_up(storage, volume.id)
    disks.write(volume.id, second)
    increment = back_up(storage, volume.id, incremental=True)
    assert storage.get_backup(increment.id).is_incremental

    restored = cinder.create_volume(1)
    restore(storage, increment, restored.id)
    assert disks.sha256(restored.id) == second.sha256(GIB)

    restore(storage, full, volume.id)
    assert disks.sha256(volume.id) == first.sha256(GIB)
