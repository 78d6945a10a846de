# SPDX-License-Identifier: Apache-2.0
"""Snapshots: what can be done with them, and the clones that keep them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from uuid import UUID, uuid4

from lightos.api.models.snapshots import CHANGED_BLOCKS_ALIGNMENT
from lightos.lab.access import VISIBLE_STATES
from lightos.lab.changed_blocks import Comparison
from lightos.lab.changes import Change
from lightos.lab.errors import AlreadyExists, FailedPrecondition, InvalidArgument, Unavailable
from lightos.lab.lifecycle import Lifecycle
from lightos.lab.names import check_name
from lightos.lab.records import SnapshotRecord, SnapshotState, VolumeRecord
from lightos.lab.storage import Storage, disk_errors
from lightos.lab.tables import Table
from lightos.lab.tenants import Tenants
from lightos.lab.validation import check_etag


class Snapshots(Mapping[UUID, SnapshotRecord]):
    """The snapshots of one cluster by UUID, and what can be done with them."""

    def __init__(
        self,
        table: Table[SnapshotRecord],
        volumes: Table[VolumeRecord],
        *,
        tenants: Tenants,
        storage: Storage,
        lifecycle: Lifecycle,
        now: Callable[[], datetime],
    ) -> None:
        self._table = table
        self._volumes = volumes
        self._tenants = tenants
        self._storage = storage
        self._lifecycle = lifecycle
        self._now = now
        self._clones: dict[UUID, set[UUID]] = {}

    def __getitem__(self, uuid: UUID) -> SnapshotRecord:
        return self._table[uuid]

    def __iter__(self) -> Iterator[UUID]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def create(
        self,
        project: str,
        *,
        name: str,
        source_volume: str | UUID,
        description: str = "",
        retention_seconds: float | None = None,
    ) -> Change[SnapshotRecord]:
        """Take a snapshot of a volume (UUID or name) as it is when made, in Creating.

        One under the name of a snapshot that is still Deleting is accepted and ends Failed.
        Raises NotFound, AlreadyExists, FailedPrecondition (volume busy or bad), Internal.
        """
        self._tenants.check_project(project)
        check_name("snapshot name", name)
        if retention_seconds is not None and retention_seconds <= 0:
            raise InvalidArgument(
                f"the retention time of snapshot {name} is {retention_seconds:g} seconds; "
                "give a positive one, or none to keep it"
            )
        volume = self._volumes.find(project, source_volume)
        if volume.state not in VISIBLE_STATES:
            raise FailedPrecondition(
                f"volume {volume.name} is {volume.state.wire_name}; a snapshot needs it Available"
            )
        namesakes = self._table.named(project, name)
        if any(s.state in (SnapshotState.CREATING, SnapshotState.AVAILABLE) for s in namesakes):
            raise AlreadyExists(f"snapshot {name} already exists in project {project}")
        snapshot = SnapshotRecord(
            uuid=uuid4(),
            project=project,
            name=name,
            state=SnapshotState.CREATING,
            doomed=any(s.state is SnapshotState.DELETING for s in namesakes),
            description=description,
            source_volume_uuid=volume.uuid,
            source_volume_name=volume.name,
            size_bytes=volume.size_bytes,
            sector_size_bytes=volume.sector_size_bytes,
            replica_count=volume.replica_count,
            group_id=volume.group_id,
            acl=volume.acl,
            ip_acl=volume.ip_acl,
            compression=volume.compression,
            etag=1,
            labels=volume.labels,
            created_at=self._now(),
            retention_seconds=retention_seconds,
            placement_restrictions=volume.placement_restrictions,
        )

        @disk_errors(f"snapshot {name}")
        def make_blocks() -> None:
            if not snapshot.doomed:
                self._storage.store.create_snapshot(volume.uuid, snapshot.uuid)

        return self._storage.creation(snapshot, make_blocks)

    def find(self, project: str | None, key: UUID | str) -> SnapshotRecord:
        """The snapshot of a UUID or a name. Raises NotFound."""
        if project is not None:
            self._tenants.check_project(project)
        return self._table.find(project, key)

    def delete(
        self, project: str | None, key: UUID | str, *, if_match: str | None = None
    ) -> Change[SnapshotRecord]:
        """Begin to delete; with clones it stays Deleting until they are gone.

        Raises NotFound, FailedPrecondition (ETag, Deleting, Failed) and Unavailable (Creating).
        """
        snapshot = self.find(project, key)
        check_etag(snapshot, if_match)
        if snapshot.state is SnapshotState.DELETING:
            raise FailedPrecondition(f"snapshot {snapshot.name} is Deleting already")
        if snapshot.state is SnapshotState.CREATING:
            raise Unavailable(f"snapshot {snapshot.name} is Creating; delete it once it is made")
        if snapshot.state is SnapshotState.FAILED:
            raise FailedPrecondition(
                f"snapshot {snapshot.name} is Failed and cannot be deleted; "
                "the cluster drops it by itself"
            )
        return Change(put=[replace(snapshot, state=SnapshotState.DELETING, etag=snapshot.etag + 1)])

    def page(
        self,
        project: str | None,
        *,
        limit: int,
        offset: UUID | None = None,
        show_all: bool = False,
        name: str | None = None,
        uuid: UUID | None = None,
    ) -> list[SnapshotRecord]:
        """One page in ascending UUID. Raises NotFound (project)."""
        if project is not None:
            self._tenants.check_project(project)

        def admits(snapshot: SnapshotRecord) -> bool:
            return show_all or snapshot.state is not SnapshotState.DELETING

        return self._table.page(project, admits, limit=limit, offset=offset, name=name, uuid=uuid)

    def compare(
        self, project: str, key: UUID | str, base: UUID | str | None, offset_lba: int
    ) -> Comparison:
        """What to look through, from `offset_lba` on, rounded down as the cluster does.

        Raises NotFound, FailedPrecondition (states) and InvalidArgument (base of another volume,
        offset beyond the end).
        """
        self._tenants.check_project(project)
        snapshot = available_snapshot(self._table, project, key)
        base_snapshot = None if base is None else available_snapshot(self._table, project, base)
        if base_snapshot and base_snapshot.source_volume_uuid != snapshot.source_volume_uuid:
            raise InvalidArgument(
                f"snapshot {snapshot.name} is of volume {snapshot.source_volume_name}, and "
                f"{base_snapshot.name} of volume {base_snapshot.source_volume_name}; only "
                "snapshots of one volume can be compared"
            )
        blocks = snapshot.size_bytes // snapshot.sector_size_bytes
        if offset_lba >= blocks:
            raise InvalidArgument(
                f"offsetLBA {offset_lba} is beyond the {blocks} blocks of snapshot {snapshot.name}"
            )
        aligned = offset_lba - offset_lba % CHANGED_BLOCKS_ALIGNMENT
        return Comparison(snapshot, base_snapshot, aligned)

    # Changes

    def put(self, snapshot: SnapshotRecord) -> None:
        """Take what is durable now."""
        self._table.put(snapshot)

    def drop(self, snapshot: SnapshotRecord) -> None:
        self._table.drop(snapshot)

    def has_clones(self, snapshot: SnapshotRecord) -> bool:
        return bool(self._clones.get(snapshot.uuid))

    def put_clone(self, volume: VolumeRecord) -> None:
        """Have a volume keep the snapshot that it is made of, if it is made of one."""
        if volume.source_snapshot_uuid is not None:
            self._clones.setdefault(volume.source_snapshot_uuid, set()).add(volume.uuid)

    def drop_clone(self, volume: VolumeRecord) -> None:
        """Have a volume that is gone keep no snapshot; the last one lets a Deleting one go."""
        if volume.source_snapshot_uuid is None:
            return
        clones = self._clones[volume.source_snapshot_uuid]
        clones.discard(volume.uuid)
        if not clones:
            del self._clones[volume.source_snapshot_uuid]
            snapshot = self._table.get(volume.source_snapshot_uuid)
            if snapshot is not None and snapshot.state is SnapshotState.DELETING:
                self._lifecycle.end_now(snapshot.uuid)


def available_snapshot(
    snapshots: Table[SnapshotRecord], project: str, key: str | UUID
) -> SnapshotRecord:
    """The snapshot of a UUID or a name. Raises NotFound, and FailedPrecondition in other states."""
    snapshot = snapshots.find(project, key)
    if snapshot.state is not SnapshotState.AVAILABLE:
        raise FailedPrecondition(
            f"snapshot {snapshot.name} is {snapshot.state.wire_name}; it must be Available"
        )
    return snapshot
