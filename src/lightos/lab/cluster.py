# SPDX-License-Identifier: Apache-2.0
"""The lab cluster: what its volumes, snapshots, nodes, tenants and reservations are together.

No sockets, no threads, no sleep: time comes from injected clocks. An operation checks what is
asked and returns a `Change`; `make` does its disk work, on any thread, and `take` then makes
it true in memory. Operations are those of `volumes`, `snapshots`, `nodes`, `tenants` and
`reservations`.

States change twice: with the operation (Available to Updating) and `transition_seconds` later
(Updating to Available), by the change that `finish_due` returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from lightos.lab.changes import Change
from lightos.lab.database import Database
from lightos.lab.lifecycle import Lifecycle
from lightos.lab.nodes import Nodes
from lightos.lab.paths import Paths
from lightos.lab.placement import MAX_GROUPS
from lightos.lab.records import (
    ClusterRecord,
    CredentialRecord,
    GroupRecord,
    NodeRecord,
    NodeState,
    PolicyRecord,
    ProjectRecord,
    Record,
    RemovalRecord,
    ReservationRecord,
    SnapshotRecord,
    SnapshotState,
    VolumeRecord,
    VolumeState,
)
from lightos.lab.reservations.changes import Reservations
from lightos.lab.reservations.rules import Reservation
from lightos.lab.snapshots import Snapshots
from lightos.lab.storage import Storage
from lightos.lab.subscribers import Subscribers
from lightos.lab.tables import Table
from lightos.lab.tenants import Tenants
from lightos.lab.view import (
    AnaGroup,
    AnaState,
    BlockStore,
    ClusterChange,
    NamespaceView,
    NodeView,
    RateLimits,
)
from lightos.lab.volumes import MAX_NAMESPACES, Volumes

R = TypeVar("R", bound=Record)


class Cluster:
    """The cluster's whole state. All methods but `make` run on one thread and do not block.

    Implements `lightos.lab.view.ClusterView`. Operations return the `Change` to carry out, the
    object's new record first in its `put`. Refusals are `ClusterError`s; a refused or failed
    operation changes nothing.
    """

    def __init__(
        self,
        database: Database,
        store: BlockStore,
        *,
        monotonic: Callable[[], float],
        now: Callable[[], datetime],
        transition_seconds: float,
        failback_seconds: float,
        nvme_port: int = 4420,
        discovery_port: int = 8009,
    ) -> None:
        """Load what `found_cluster` or an earlier run left, and make it agree with `store`.

        Raises LabError when metadata and blocks do not fit together.
        """
        (self.record,) = database.load(ClusterRecord)
        self._nvme_port = nvme_port
        self._discovery_port = discovery_port
        self._storage = Storage(database, store)
        self._subscribers = Subscribers()
        self._paths = Paths()
        self.lifecycle = Lifecycle(
            monotonic=monotonic,
            now=now,
            transition_seconds=transition_seconds,
            failback_seconds=failback_seconds,
        )
        volumes: Table[VolumeRecord] = Table("volume", {VolumeState.FAILED})
        snapshots: Table[SnapshotRecord] = Table(
            "snapshot", {SnapshotState.FAILED, SnapshotState.DELETING}
        )
        self.tenants = Tenants(
            database.load(ProjectRecord),
            database.load(PolicyRecord),
            database.load(CredentialRecord),
            volumes,
            snapshots,
        )
        self.projects = self.tenants.projects
        self.nodes = Nodes(
            database.load(NodeRecord),
            database.load(GroupRecord),
            cluster=self.record,
            # Milliseconds outrun the changes of any earlier run, so hosts never see one repeat.
            discovery_generation=int(now().timestamp() * 1000),
            volumes=volumes,
            snapshots=snapshots,
            paths=self._paths,
            lifecycle=self.lifecycle,
            subscribers=self._subscribers,
        )
        self.reservations = Reservations(
            database.load(ReservationRecord), volumes, self._subscribers
        )
        self.volumes = Volumes(
            volumes,
            snapshots,
            tenants=self.tenants,
            nodes=self.nodes,
            paths=self._paths,
            reservations=self.reservations,
            storage=self._storage,
            now=now,
        )
        self.snapshots = Snapshots(
            snapshots,
            volumes,
            tenants=self.tenants,
            storage=self._storage,
            lifecycle=self.lifecycle,
            now=now,
        )
        self.volumes.load(database.load(VolumeRecord))
        for volume in volumes.values():
            self.snapshots.put_clone(volume)
        for snapshot in sorted(database.load(SnapshotRecord), key=lambda s: s.created_at):
            self.snapshots.put(snapshot)
        self._storage.reconcile(volumes, snapshots)
        for records in (self.nodes, volumes, snapshots):
            for record in records.values():
                self.lifecycle.follow(record)

    # What the NVMe side asks (ClusterView)

    @property
    def subsystem_nqn(self) -> str:
        return self.record.subsystem_nqn

    @property
    def serial_number(self) -> str:
        return self.record.serial_number

    @property
    def nvme_port(self) -> int:
        return self._nvme_port

    @property
    def discovery_port(self) -> int:
        return self._discovery_port

    @property
    def max_namespaces(self) -> int:
        return MAX_NAMESPACES

    @property
    def max_ana_group_id(self) -> int:
        return MAX_GROUPS

    @property
    def discovery_generation(self) -> int:
        return self.nodes.discovery_generation

    def serving_nodes(self) -> Sequence[NodeView]:
        return self.nodes.serving

    def running_nodes(self) -> Sequence[NodeView]:
        """Nodes whose services are up: those that serve, and those that are frozen."""
        return self.nodes.running

    def host_may_connect(self, host_nqn: str, host_address: str) -> bool:
        """Every host may: what it then sees is decided volume by volume."""
        return bool(host_nqn and host_address)

    def namespaces(self, host_nqn: str, host_address: str) -> Mapping[int, NamespaceView]:
        return self.volumes.namespaces(host_nqn, host_address)

    def ana_groups(self, node_uuid: UUID) -> Sequence[AnaGroup]:
        return self._paths.ana_groups(node_uuid)

    def ana_state(self, node_uuid: UUID, ana_group_id: int) -> AnaState:
        return self._paths.state(node_uuid, ana_group_id)

    def ana_change_count(self) -> int:
        return self._paths.change_count

    def ana_moved_at(self, ana_group_id: int) -> int:
        return self._paths.moved_at(ana_group_id)

    def rate_limits(self, volume_uuid: UUID) -> RateLimits:
        return self.volumes.rate_limits(volume_uuid)

    def reservation(self, volume_uuid: UUID) -> Reservation | None:
        return self.reservations.get(volume_uuid)

    def subscribe(self, listener: Callable[[ClusterChange], None]) -> Callable[[], None]:
        return self._subscribers.add(listener)

    # Time

    def seconds_to_next_due(self) -> float | None:
        """After how many seconds `finish_due` is wanted; None while nothing is under way."""
        return self.lifecycle.seconds_to_next_due()

    def finish_due(self) -> Change[Record]:
        """Everything whose present state ends by now."""
        put: list[Record] = []
        drop: list[Record] = []
        for uuid in self.lifecycle.pop_due():
            if (volume := self.volumes.get(uuid)) is not None:
                if (next_volume := self.lifecycle.after_volume(volume)) is not None:
                    put.append(next_volume)
                else:
                    drop.append(volume)
            elif (snapshot := self.snapshots.get(uuid)) is not None:
                if (next_snapshot := self.lifecycle.after_snapshot(snapshot)) is not None:
                    put.append(next_snapshot)
                elif not self.snapshots.has_clones(snapshot):
                    drop.append(snapshot)
            elif self.nodes[uuid].state is NodeState.ACTIVATING:
                put.append(replace(self.nodes[uuid], state=NodeState.ACTIVE))
            else:
                self.nodes.settle(uuid)
        put += [RemovalRecord(record.uuid) for record in drop]
        reservations = self.reservations.records_of(drop)

        def remove_blocks() -> None:
            for record in drop:
                self._storage.forget_blocks(record)

        return Change(put=put, drop=[*drop, *reservations], after=remove_blocks)

    def postpone(self, change: Change[Record]) -> None:
        """Try again later what `finish_due` gave and the disk refused."""
        self.lifecycle.postpone([*change.put, *change.drop])

    def forget_all(self) -> Change[Record]:
        """Forget every volume, snapshot, policy, credential, and project but the default one.

        Whatever their state, and at once.
        """
        gone = [*self.volumes.values(), *self.snapshots.values()]
        default, others = self.tenants.all_but_default()

        def remove_blocks() -> None:
            for record in gone:
                self._storage.forget_blocks(record)

        return Change(
            put=[default, *(RemovalRecord(record.uuid) for record in gone)],
            drop=[*gone, *self.reservations.records_of(gone), *others],
            after=remove_blocks,
        )

    def touch(self, uuid: UUID) -> Change[VolumeRecord | SnapshotRecord]:
        """Give a volume or snapshot a new ETag, as every write does; nothing if it is gone."""
        record = self.volumes.get(uuid) or self.snapshots.get(uuid)
        return Change() if record is None else Change(put=[replace(record, etag=record.etag + 1)])

    def release(self, uuids: Iterable[UUID]) -> None:
        """Let objects settle that were held; those that are gone do not matter."""
        for uuid in uuids:
            self.lifecycle.release(uuid)
            record = self.volumes.get(uuid) or self.snapshots.get(uuid)
            if record is not None:
                self.lifecycle.follow(record)

    # Changes

    def make(self, change: Change[Record]) -> None:
        """Do a change's disk work, on any thread. Raises Internal with nothing changed."""
        self._storage.make(change)

    def take(self, change: Change[Record]) -> None:
        """Make true what is durable now, and tell who listens."""
        change.when_taken()
        nsids: set[int] = set()
        nodes_before = self.nodes.running, self.nodes.serving
        ana = limits = False
        for record in change.drop:
            limits = limits or self.rate_limits(record.uuid) != RateLimits()
            self._drop(record, nsids)
        for record in change.put:
            match record:
                case VolumeRecord():
                    if self.volumes.put(record):
                        nsids.add(record.nsid)
                    self.snapshots.put_clone(record)
                    limits = self.volumes.follow_limits(record) or limits
                case SnapshotRecord():
                    self.snapshots.put(record)
                case PolicyRecord():
                    self.tenants.put(record)
                    for volume in self.tenants.users(record):
                        limits = self.volumes.follow_limits(volume) or limits
                case ProjectRecord() | CredentialRecord():
                    self.tenants.put(record)
                case NodeRecord():
                    self.nodes.put(record)
                case GroupRecord():
                    self.nodes.put_group(record)
            self.lifecycle.follow(record)
        if any(isinstance(r, NodeRecord | GroupRecord) for r in (*change.put, *change.drop)):
            moved = any(isinstance(record, GroupRecord) for record in change.drop)
            ana = self.nodes.follow() or moved
        nodes = nodes_before != (self.nodes.running, self.nodes.serving)
        self._subscribers.tell(ClusterChange(frozenset(nsids), ana, nodes, limits))

    def carry_out(self, change: Change[R]) -> Change[R]:
        """Make and take a change at once, where nobody minds waiting for the disk."""
        self.make(change)
        self.take(change)
        return change

    def _drop(self, record: Record, nsids: set[int]) -> None:
        self.lifecycle.forget(record.uuid)
        match record:
            case SnapshotRecord():
                self.snapshots.drop(record)
            case VolumeRecord():
                self.reservations.drop(record.uuid)
                if self.volumes.drop(record):
                    nsids.add(record.nsid)
                self.snapshots.drop_clone(record)
            case PolicyRecord() | ProjectRecord() | CredentialRecord():
                self.tenants.drop(record)
            case NodeRecord():
                self.nodes.drop(record)
            case GroupRecord():
                self.nodes.drop_group(record)
