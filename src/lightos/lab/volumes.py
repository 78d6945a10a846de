# SPDX-License-Identifier: Apache-2.0
"""Volumes: what can be done with them, and what hosts see of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from lightos.api.models.volumes import PlacementRestriction
from lightos.lab.access import VISIBLE_STATES, AccessIndex
from lightos.lab.changes import Change
from lightos.lab.errors import AlreadyExists, FailedPrecondition, InvalidArgument, Unavailable
from lightos.lab.names import check_name
from lightos.lab.nodes import Nodes
from lightos.lab.paths import Paths
from lightos.lab.placement import MAX_REPLICAS
from lightos.lab.records import SnapshotRecord, VolumeRecord, VolumeState
from lightos.lab.reservations.changes import Reservations
from lightos.lab.snapshots import available_snapshot
from lightos.lab.storage import Storage, disk_errors
from lightos.lab.tables import Table
from lightos.lab.tenants import NO_POLICY, Tenants
from lightos.lab.validation import (
    check_acl,
    check_etag,
    check_ip_acl,
    check_labels,
    check_placement,
    rounded_size,
)
from lightos.lab.view import NamespaceView, RateLimits

MAX_NAMESPACES = 16384
"""The ANA log page of a host lists up to this many namespace ids, 4 bytes each; Linux turns
multipath off for a controller whose log page does not fit one transfer (MDTS)."""

NO_LIMITS = RateLimits()


class Volumes(Mapping[UUID, VolumeRecord]):
    """The volumes of one cluster by UUID, and what can be done with them."""

    def __init__(
        self,
        table: Table[VolumeRecord],
        snapshots: Table[SnapshotRecord],
        *,
        tenants: Tenants,
        nodes: Nodes,
        paths: Paths,
        reservations: Reservations,
        storage: Storage,
        now: Callable[[], datetime],
    ) -> None:
        self._table = table
        self._snapshots = snapshots
        self._tenants = tenants
        self._nodes = nodes
        self._paths = paths
        self._reservations = reservations
        self._storage = storage
        self._now = now
        self._access = AccessIndex()
        self._rate_limits: dict[UUID, RateLimits] = {}
        self._nsids: set[int] = set()
        self._count_of_group: Counter[int] = Counter()
        self._last_nsid = 0

    def __getitem__(self, uuid: UUID) -> VolumeRecord:
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
        size_bytes: int,
        replica_count: int,
        acl: Sequence[str],
        ip_acl: Sequence[str],
        compression: bool,
        sector_size_bytes: int,
        source_snapshot: str | UUID | None = None,
        placement_restrictions: Sequence[PlacementRestriction] = (),
        qos_policy: str | UUID = NO_POLICY,
        labels: Sequence[tuple[str, str]] = (),
    ) -> Change[VolumeRecord]:
        """Make a volume, empty or from a snapshot (UUID or name), in Creating.

        The size is rounded up to 4 KiB. A QoS policy goes by UUID or name; without one that of
        the project counts, not that of a snapshot's volume. Raises InvalidArgument, NotFound
        (project, snapshot), AlreadyExists, FailedPrecondition (snapshot state), Unavailable (no
        node for it) and Internal (disk).
        """
        self._tenants.check_project(project)
        check_name("volume name", name)
        size_bytes = rounded_size(size_bytes)
        self._check_replica_count(replica_count)
        restrictions = check_placement(placement_restrictions, replica_count)
        snapshot = (
            None
            if source_snapshot is None
            else available_snapshot(self._snapshots, project, source_snapshot)
        )
        if snapshot is not None and size_bytes < snapshot.size_bytes:
            raise InvalidArgument(
                f"volume {name} of {size_bytes} bytes is smaller than its source snapshot "
                f"{snapshot.name} of {snapshot.size_bytes} bytes; ask for at least that size"
            )
        self._check_name_free(project, name)
        volume = VolumeRecord(
            uuid=uuid4(),
            project=project,
            name=name,
            state=VolumeState.CREATING,
            size_bytes=size_bytes,
            sector_size_bytes=snapshot.sector_size_bytes if snapshot else sector_size_bytes,
            replica_count=replica_count,
            group_id=self._group_for(replica_count, restrictions, snapshot),
            nsid=self._free_nsid(),
            acl=check_acl(acl),
            ip_acl=check_ip_acl(ip_acl),
            compression=compression,
            etag=1,
            source_snapshot_uuid=snapshot.uuid if snapshot else None,
            source_snapshot_name=snapshot.name if snapshot else "",
            labels=check_labels(labels) or (snapshot.labels if snapshot else ()),
            created_at=self._now(),
            qos_policy_uuid=self._tenants.policy_for_volume(project, qos_policy),
            placement_restrictions=restrictions,
        )

        @disk_errors(f"volume {name}")
        def make_blocks() -> None:
            if snapshot is None:
                self._storage.store.create_volume(volume.uuid, size_bytes)
            else:
                self._storage.store.clone_snapshot(snapshot.uuid, volume.uuid, size_bytes)

        return self._storage.creation(volume, make_blocks)

    def find(self, project: str | None, key: UUID | str) -> VolumeRecord:
        """The volume of a UUID or a name; without a project, a UUID of any. Raises NotFound."""
        if project is not None:
            self._tenants.check_project(project)
        return self._table.find(project, key)

    def update(
        self,
        project: str | None,
        key: UUID | str,
        *,
        if_match: str | None = None,
        size_bytes: int | None = None,
        force: bool = False,
        acl: Sequence[str] | None = None,
        ip_acl: Sequence[str] | None = None,
        compression: bool | None = None,
        qos_policy: str | UUID | None = None,
        labels: Sequence[tuple[str, str]] | None = None,
        new_name: str | None = None,
    ) -> Change[Any]:
        """Change what is given, leave the rest; the volume goes to Updating.

        A QoS policy goes by UUID or name; an empty one is the project's default, or none. Hosts
        that the ACL does not admit any more lose their registrations and reservations.
        Raises NotFound, FailedPrecondition (ETag, state, shrink without force), Unavailable
        (busy), InvalidArgument, AlreadyExists (new name) and Internal (disk).
        """
        volume = self.find(project, key)
        check_etag(volume, if_match)
        _check_open("update", volume)
        size = volume.size_bytes if size_bytes is None else rounded_size(size_bytes)
        if size < volume.size_bytes and not force:
            raise FailedPrecondition(
                f"volume {volume.name} has {volume.size_bytes} bytes; to shrink it to {size} "
                "bytes cuts data off and needs Force"
            )
        if new_name is not None and new_name != volume.name:
            check_name("volume name", new_name)
            self._check_name_free(volume.project, new_name)
        updated = replace(
            volume,
            state=VolumeState.UPDATING,
            etag=volume.etag + 1,
            size_bytes=size,
            acl=volume.acl if acl is None else check_acl(acl),
            ip_acl=volume.ip_acl if ip_acl is None else check_ip_acl(ip_acl),
            compression=volume.compression if compression is None else compression,
            labels=volume.labels if labels is None else check_labels(labels),
            name=new_name or volume.name,
            qos_policy_uuid=volume.qos_policy_uuid
            if qos_policy is None
            else self._tenants.policy_for_volume(volume.project, qos_policy),
        )

        @disk_errors(f"volume {volume.name}")
        def resize() -> None:
            if size != volume.size_bytes:
                self._storage.store.resize_volume(volume.uuid, size)

        change: Change[Any] = Change(put=[updated], replaced=[volume], after=resize)
        return self._reservations.with_acl(change, volume, updated.acl)

    def delete(
        self, project: str | None, key: UUID | str, *, if_match: str | None = None
    ) -> Change[VolumeRecord]:
        """Begin to delete; hosts lose the namespace at once.

        Raises NotFound, FailedPrecondition (ETag, Deleting, Failed) and Unavailable (busy).
        """
        volume = self.find(project, key)
        check_etag(volume, if_match)
        _check_open("delete", volume)
        return Change(put=[replace(volume, state=VolumeState.DELETING, etag=volume.etag + 1)])

    def roll_back(
        self, project: str | None, key: UUID | str, *, snapshot: str | UUID
    ) -> Change[VolumeRecord]:
        """Set a volume's content back to one of its own snapshots; its size stays.

        Raises NotFound, InvalidArgument (another volume's snapshot), FailedPrecondition
        (states, snapshot larger than a volume shrunk since), Unavailable (busy, Deleting), Internal
        (disk; the content may have gone back then, and asking again completes it).
        """
        volume = self.find(project, key)
        if volume.state is VolumeState.DELETING:
            raise Unavailable(f"cannot roll back volume {volume.name}: it is Deleting")
        _check_open("roll back", volume)
        source = available_snapshot(self._snapshots, volume.project, snapshot)
        if source.source_volume_uuid != volume.uuid:
            raise InvalidArgument(
                f"snapshot {source.name} was not taken of volume {volume.name}; "
                "a volume can only be rolled back to a snapshot of its own"
            )
        if source.size_bytes > volume.size_bytes:
            raise FailedPrecondition(
                f"volume {volume.name} has shrunk to {volume.size_bytes} bytes since snapshot "
                f"{source.name} of {source.size_bytes} bytes; extend it first"
            )

        @disk_errors(f"volume {volume.name}")
        def roll_back() -> None:
            self._storage.store.roll_back(volume.uuid, source.uuid)

        # The blocks go first: after a crash the next start must not do it again, because hosts
        # may have written since.
        rolled = replace(volume, state=VolumeState.ROLLBACK, etag=volume.etag + 1)
        return Change(put=[rolled], before=roll_back)

    def page(
        self,
        project: str | None,
        *,
        limit: int,
        offset: UUID | None = None,
        show_all: bool = False,
        name: str | None = None,
        uuid: UUID | None = None,
        source_snapshot_uuid: UUID | None = None,
        failure_domain: str | None = None,
    ) -> list[VolumeRecord]:
        """One page in ascending UUID, of one project or of all. Raises NotFound (project).

        With a failure domain, those that have a replica in it.
        """
        if project is not None:
            self._tenants.check_project(project)

        def admits(volume: VolumeRecord) -> bool:
            return (
                (show_all or volume.state is not VolumeState.DELETING)
                and source_snapshot_uuid in (None, volume.source_snapshot_uuid)
                and (
                    failure_domain is None
                    or failure_domain in self._nodes.failure_domains(volume.group_id)
                )
            )

        return self._table.page(project, admits, limit=limit, offset=offset, name=name, uuid=uuid)

    # What hosts see

    def namespaces(self, host_nqn: str, host_address: str) -> Mapping[int, NamespaceView]:
        """Namespaces whose ACL admits this host NQN from this address, by nsid."""
        return self._access.namespaces(host_nqn, host_address)

    def rate_limits(self, volume_uuid: UUID) -> RateLimits:
        """What a volume may do now."""
        return self._rate_limits.get(volume_uuid, NO_LIMITS)

    # Changes

    def put(self, volume: VolumeRecord) -> bool:
        """Take what is durable now into every index; True when hosts see a difference."""
        before = self._table.get(volume.uuid)
        if before is None:
            self._nsids.add(volume.nsid)
            self._last_nsid = volume.nsid
            self._count_of_group[volume.group_id] += 1
        elif before.group_id != volume.group_id:
            self._paths.remove(before.group_id, volume.nsid)
            self._count_of_group[before.group_id] -= 1
            self._count_of_group[volume.group_id] += 1
        self._table.put(volume)
        if volume.state in VISIBLE_STATES:
            self._paths.add(volume.group_id, volume.nsid)
        else:
            self._paths.remove(volume.group_id, volume.nsid)
        return self._access.put(volume)

    def load(self, volumes: Iterable[VolumeRecord]) -> None:
        """Take what an earlier run left."""
        for volume in sorted(volumes, key=lambda volume: volume.created_at):
            self.put(volume)
            self.follow_limits(volume)
        self._last_nsid = max(self._nsids, default=0)

    def drop(self, volume: VolumeRecord) -> bool:
        """Forget a volume that is gone; True when hosts saw it."""
        self._table.drop(volume)
        self._rate_limits.pop(volume.uuid, None)
        self._nsids.discard(volume.nsid)
        self._count_of_group[volume.group_id] -= 1
        self._paths.remove(volume.group_id, volume.nsid)
        return self._access.drop(volume.nsid)

    def follow_limits(self, volume: VolumeRecord) -> bool:
        """Derive what a volume may do from its policy and size; True when it changed."""
        before = self.rate_limits(volume.uuid)
        after = self._tenants.rate_limits(volume)
        if after == NO_LIMITS:
            self._rate_limits.pop(volume.uuid, None)
        else:
            self._rate_limits[volume.uuid] = after
        return after != before

    # Checks

    def _check_name_free(self, project: str, name: str) -> None:
        if any(v.state is not VolumeState.FAILED for v in self._table.named(project, name)):
            raise AlreadyExists(f"volume {name} already exists in project {project}")

    def _check_replica_count(self, replica_count: int) -> None:
        if not 1 <= replica_count <= MAX_REPLICAS:
            raise InvalidArgument(
                f"replicaCount {replica_count} is not supported; use 1 to {MAX_REPLICAS}"
            )
        if replica_count > len(self._nodes):
            raise InvalidArgument(
                f"{replica_count} replicas need {replica_count} nodes, "
                f"and this cluster has {len(self._nodes)}"
            )

    def _group_for(
        self,
        replica_count: int,
        restrictions: Sequence[PlacementRestriction],
        snapshot: SnapshotRecord | None,
    ) -> int:
        """A clone stays where its snapshot's blocks are, if it has as many replicas and may."""
        if (
            snapshot is not None
            and snapshot.replica_count == replica_count
            and self._nodes.admits(restrictions, snapshot.group_id)
        ):
            return snapshot.group_id
        return self._nodes.group_for(replica_count, restrictions, self._count_of_group)

    def _free_nsid(self) -> int:
        """The next id upwards, round and round: hosts should not soon see one used again."""
        for step in range(MAX_NAMESPACES):
            nsid = (self._last_nsid + step) % MAX_NAMESPACES + 1
            if nsid not in self._nsids:
                return nsid
        raise Unavailable(f"the cluster is full: it holds {MAX_NAMESPACES} volumes")


def _check_open(verb: str, volume: VolumeRecord) -> None:
    """Steady volumes take every operation, transient ones none, ending ones never again."""
    if volume.state in (VolumeState.AVAILABLE, VolumeState.MIGRATING):
        return
    text = f"cannot {verb} volume {volume.name}: it is {volume.state.wire_name}"
    if volume.state in (VolumeState.DELETING, VolumeState.FAILED):
        raise FailedPrecondition(text)
    raise Unavailable(f"{text}; try again")
