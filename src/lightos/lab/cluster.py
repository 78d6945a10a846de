# SPDX-License-Identifier: Apache-2.0
"""The lab cluster: projects, volumes, snapshots and nodes, and their state changes over time.

No sockets, no threads, no sleep: time comes from injected clocks. An operation checks what is
asked and returns a `Change`; `make` does its disk work, on any thread, and `take` then makes
it true in memory. Blocks are made before the metadata that names them and removed after it, so
a crash in between leaves at most blocks that nothing names; the next start removes those.

States change twice: with the operation (Available to Updating) and `transition_seconds` later
(Updating to Available), by the change that `finish_due` returns.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4, uuid5

from lightos.api.models import CHANGED_BLOCKS_ALIGNMENT
from lightos.lab.access import VISIBLE_STATES, AccessIndex, acl_admits
from lightos.lab.changed_blocks import Comparison
from lightos.lab.changes import Change
from lightos.lab.database import Database
from lightos.lab.errors import (
    AlreadyExists,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    LabError,
    NotFound,
    Unavailable,
)
from lightos.lab.paths import Paths
from lightos.lab.placement import (
    MAX_GROUPS,
    MAX_NODES,
    MAX_REPLICAS,
    PlacementGroup,
    choose_group,
    placement_groups,
    regrouped,
    successors,
)
from lightos.lab.records import (
    ClusterRecord,
    GroupRecord,
    NodeRecord,
    NodeState,
    PolicyRecord,
    ProjectRecord,
    ProtectionState,
    Record,
    RemovalRecord,
    ReservationRecord,
    SnapshotRecord,
    SnapshotState,
    VolumeRecord,
    VolumeState,
)
from lightos.lab.reservations.rules import (
    Decision,
    Host,
    Reservation,
    ReservationCommand,
    decide,
    leave_out,
)
from lightos.lab.reservations.table import ReservationTable, reservation_record
from lightos.lab.schedule import Schedule
from lightos.lab.tables import Object, Table
from lightos.lab.tenants import NO_POLICY, Tenants
from lightos.lab.validation import check_acl, check_ip_acl, check_labels, check_name, rounded_size
from lightos.lab.view import (
    AnaGroup,
    AnaState,
    BlockStore,
    ClusterChange,
    NamespaceView,
    NodeView,
    RateLimits,
    ReservationChange,
)
from lightos.nvme_tcp.constants import Status
from lightos.nvme_tcp.errors import CommandFailed

LOG = logging.getLogger(__name__)

MAX_NAMESPACES = 16384
"""The ANA log page of a host lists up to this many namespace ids, 4 bytes each; Linux turns
multipath off for a controller whose log page does not fit one transfer (MDTS)."""

CONTROLLER_IDS_PER_NODE = 4096
FAILED_KEPT_SECONDS = 60.0
"""A Failed object cannot be deleted; the cluster drops it by itself after this time."""

RETRY_SECONDS = 1.0

NO_LIMITS = RateLimits()

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
        self._database = database
        self._store = store
        self._monotonic = monotonic
        self._now = now
        self._transition_seconds = transition_seconds
        self._failback_seconds = failback_seconds
        self._nvme_port = nvme_port
        self._discovery_port = discovery_port
        self._listeners: list[Callable[[ClusterChange], None]] = []

        (self.record,) = database.load(ClusterRecord)
        nodes = sorted(database.load(NodeRecord), key=lambda node: node.index)
        self.nodes = {node.uuid: node for node in nodes}
        self.volumes: Table[VolumeRecord] = Table()
        self.snapshots: Table[SnapshotRecord] = Table()
        self.tenants = Tenants(
            database.load(ProjectRecord), database.load(PolicyRecord), self.volumes, self.snapshots
        )
        self.projects = self.tenants.projects
        self.check_project = self.tenants.check_project
        self._rate_limits: dict[UUID, RateLimits] = {}
        self._reservations = ReservationTable(database.load(ReservationRecord))
        self._access = AccessIndex()
        self._groups = {
            record.group_id: record
            for record in database.load(GroupRecord)
            or self._group_records(placement_groups(tuple(self.nodes)))
        }
        self._paths = Paths()
        self._regroup()
        self._nsids: set[int] = set()
        self._last_nsid = 0
        self._clones: dict[UUID, set[UUID]] = {}
        self._removed: list[RemovalRecord] = []
        """Whose blocks are gone; forgotten with the next change. Only the thread that makes changes
        touches it."""
        self._schedule: Schedule[UUID] = Schedule()
        self._held: dict[UUID, str] = {}
        self._failing: set[UUID] = set()
        self._running: tuple[NodeView, ...] = ()
        self._serving: tuple[NodeView, ...] = ()
        self._frozen: Set[UUID] = frozenset()
        self._demoted: Set[UUID] = frozenset()
        self._settled = {
            node.uuid for node in self.nodes.values() if node.state is NodeState.ACTIVE
        }
        # Milliseconds outrun the changes of any earlier run, so hosts never see one repeat.
        self._discovery_generation = int(now().timestamp() * 1000)
        self._follow_nodes()
        for volume in sorted(database.load(VolumeRecord), key=lambda v: v.created_at):
            self._put_volume(volume)
            self._follow_limits(volume)
        for snapshot in sorted(database.load(SnapshotRecord), key=lambda s: s.created_at):
            self.snapshots.put(snapshot)
        self._last_nsid = max(self._nsids, default=0)
        self._reconcile()
        self._resume()

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
        return self._discovery_generation

    def serving_nodes(self) -> Sequence[NodeView]:
        return self._serving

    def running_nodes(self) -> Sequence[NodeView]:
        """Nodes whose services are up: those that serve, and those that are frozen."""
        return self._running

    def host_may_connect(self, host_nqn: str, host_address: str) -> bool:
        """Every host may: what it then sees is decided volume by volume."""
        return bool(host_nqn and host_address)

    def namespaces(self, host_nqn: str, host_address: str) -> Mapping[int, NamespaceView]:
        return self._access.namespaces(host_nqn, host_address)

    def ana_groups(self, node_uuid: UUID) -> Sequence[AnaGroup]:
        return self._paths.ana_groups(node_uuid)

    def ana_state(self, node_uuid: UUID, ana_group_id: int) -> AnaState:
        return self._paths.state(node_uuid, ana_group_id)

    def ana_change_count(self) -> int:
        return self._paths.change_count

    def ana_moved_at(self, ana_group_id: int) -> int:
        return self._paths.moved_at(ana_group_id)

    def rate_limits(self, volume_uuid: UUID) -> RateLimits:
        return self._rate_limits.get(volume_uuid, NO_LIMITS)

    def reservation(self, volume_uuid: UUID) -> Reservation | None:
        return self._reservations.get(volume_uuid)

    def subscribe(self, listener: Callable[[ClusterChange], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # Nodes

    def node_view(self, node: NodeRecord) -> NodeView:
        return NodeView(
            uuid=node.uuid,
            name=node.name,
            address=node.address,
            controller_id_base=node.index * CONTROLLER_IDS_PER_NODE + 1,
        )

    def find_node(self, uuid: UUID) -> NodeRecord:
        """Raises NotFound."""
        if (node := self.nodes.get(uuid)) is None:
            raise NotFound(f"node {uuid} does not exist")
        return node

    def stop_node(self, uuid: UUID) -> Change[NodeRecord]:
        """End a node at once; its groups move to the next serving replica."""
        return Change(put=[replace(self.find_node(uuid), state=NodeState.INACTIVE)])

    def start_node(self, uuid: UUID) -> Change[NodeRecord]:
        """Begin to start a node; it serves after the transition time."""
        node = self.find_node(uuid)
        if node.state is not NodeState.INACTIVE:
            return Change()
        return Change(put=[replace(node, state=NodeState.ACTIVATING)])

    def state_of(self, node: NodeRecord) -> NodeState:
        """A node's state as the others see it: one that is frozen is as good as gone."""
        return NodeState.INACTIVE if node.uuid in self._frozen else node.state

    def follow_faults(self, *, frozen: Set[UUID], demoted: Set[UUID]) -> Change[NodeRecord]:
        """Have these nodes answer nobody, and these leave the primary role to others, from now on.

        One that answers again is primary again when hosts had time to find it, as after a start.
        Nothing of it is kept: faults live in memory only.
        """
        nodes_before = self._serving
        self._settled -= frozen - self._frozen
        for uuid in self._frozen - frozen:
            if uuid in self.nodes:
                self._schedule_record(self.nodes[uuid])
        self._frozen, self._demoted = frozen, demoted
        ana = self._follow_nodes()
        self._tell(ClusterChange(ana=ana, nodes=nodes_before != self._serving))
        return Change()

    def node_named(self, name: str) -> NodeRecord:
        """Raises NotFound."""
        for node in self.nodes.values():
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.nodes.values())
        raise NotFound(f"there is no node {name[:64]}; nodes are {names}")

    def add_node(self, address: str) -> Change[NodeRecord]:
        """Have one more node; it serves after the transition time, and gets new volumes.

        Raises AlreadyExists for another node's address and FailedPrecondition when the cluster
        is as large as can be.
        """
        self._check_address_free(address)
        used = {node.index for node in self.nodes.values()}
        index = next((number for number in range(MAX_NODES) if number not in used), None)
        if index is None:
            raise FailedPrecondition(f"the cluster has {MAX_NODES} nodes, as many as can be")
        node = NodeRecord(uuid4(), index, f"node{index + 1}", address, NodeState.ACTIVATING)
        return self._membership_change([*self.nodes.values(), node], put=[node])

    def remove_node(self, uuid: UUID) -> Change[NodeRecord]:
        """Have a node less; its replicas are rebuilt on the others at once.

        Raises NotFound, and FailedPrecondition where a volume or snapshot has more replicas than
        nodes would be left, or no other replica that serves while this node does not.
        """
        node = self.find_node(uuid)
        left = [other for other in self.nodes.values() if other.uuid != uuid]
        if not left:
            raise FailedPrecondition(f"{node.name} is the only node; end the lab instead")
        kept: Iterable[VolumeRecord | SnapshotRecord] = itertools.chain(
            self.volumes.values(), self.snapshots.values()
        )
        for record in kept:
            replicas = self.replica_node_uuids(record.group_id)
            what = f"{record.kind} {record.name} of project {record.project}"
            if record.replica_count > len(left):
                raise FailedPrecondition(
                    f"{what} has {record.replica_count} replicas, and without {node.name} there "
                    f"are {len(left)} nodes: add a node first, or delete it"
                )
            sources = [r for r in replicas if self.state_of(self.nodes[r]) is NodeState.ACTIVE]
            if uuid in replicas and not sources:
                raise FailedPrecondition(
                    f"{what} would lose its last replica with {node.name}, since no node that has "
                    "one serves: start one of them first, or delete it"
                )
        return self._membership_change(left, drop=[node])

    def move_node(self, uuid: UUID, address: str) -> Change[NodeRecord]:
        """Give a node another address, where hosts first have to find it.

        Raises NotFound, and AlreadyExists for another node's address.
        """
        node = self.find_node(uuid)
        if node.address == address:
            return Change()
        self._check_address_free(address)
        return Change(put=[replace(node, address=address)])

    def _check_address_free(self, address: str) -> None:
        for node in self.nodes.values():
            if node.address == address:
                raise AlreadyExists(f"{node.name} has the address {address} already")

    def _membership_change(
        self,
        nodes: Iterable[NodeRecord],
        *,
        put: Sequence[NodeRecord] = (),
        drop: Sequence[NodeRecord] = (),
    ) -> Change[Any]:
        """What goes with other nodes: placement groups, and objects whose group is no more."""
        order = [node.uuid for node in sorted(nodes, key=lambda node: node.index)]
        groups = regrouped(self._paths.groups, order)
        moves = successors(self._paths.groups, groups)
        left = {group.group_id for group in groups}
        kept: Iterable[VolumeRecord | SnapshotRecord] = itertools.chain(
            self.volumes.values(), self.snapshots.values()
        )
        moved = [
            replace(record, group_id=moves[record.group_id])
            for record in kept
            if record.group_id in moves
        ]
        gone = [group for number, group in self._groups.items() if number not in left]
        return Change(put=[*put, *moved, *self._group_records(groups)], drop=[*drop, *gone])

    def _group_records(self, groups: Iterable[PlacementGroup]) -> list[GroupRecord]:
        return [
            GroupRecord(
                uuid5(self.record.uuid, f"group {group.group_id}"), group.group_id, group.node_uuids
            )
            for group in groups
        ]

    def _regroup(self) -> None:
        self._paths.regroup(
            PlacementGroup(record.group_id, record.node_uuids) for record in self._groups.values()
        )

    # Volumes

    def create_volume(
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
        qos_policy: str | UUID = NO_POLICY,
        labels: Sequence[tuple[str, str]] = (),
    ) -> Change[VolumeRecord]:
        """Make a volume, empty or from a snapshot (UUID or name), in Creating.

        The size is rounded up to 4 KiB. A QoS policy goes by UUID or name; without one that of
        the project counts, not that of a snapshot's volume. Raises InvalidArgument, NotFound
        (project, snapshot), AlreadyExists, FailedPrecondition (snapshot state), Unavailable (no
        node for it) and Internal (disk).
        """
        self.check_project(project)
        check_name("volume name", name)
        size_bytes = rounded_size(size_bytes)
        self._check_replica_count(replica_count)
        snapshot = None if source_snapshot is None else self._source(project, source_snapshot)
        if snapshot is not None and size_bytes < snapshot.size_bytes:
            raise InvalidArgument(
                f"volume {name} of {size_bytes} bytes is smaller than its source snapshot "
                f"{snapshot.name} of {snapshot.size_bytes} bytes; ask for at least that size"
            )
        self._check_volume_name_free(project, name)
        volume = VolumeRecord(
            uuid=uuid4(),
            project=project,
            name=name,
            state=VolumeState.CREATING,
            size_bytes=size_bytes,
            sector_size_bytes=snapshot.sector_size_bytes if snapshot else sector_size_bytes,
            replica_count=replica_count,
            group_id=self._group_for(replica_count, snapshot),
            nsid=self._free_nsid(),
            acl=check_acl(acl),
            ip_acl=check_ip_acl(ip_acl),
            compression=compression,
            etag=1,
            source_snapshot_uuid=snapshot.uuid if snapshot else None,
            source_snapshot_name=snapshot.name if snapshot else "",
            labels=check_labels(labels) or (snapshot.labels if snapshot else ()),
            created_at=self._now(),
            qos_policy_uuid=self.tenants.policy_for_volume(project, qos_policy),
        )

        @_blocks(f"volume {name}")
        def make_blocks() -> None:
            if snapshot is None:
                self._store.create_volume(volume.uuid, size_bytes)
            else:
                self._store.clone_snapshot(snapshot.uuid, volume.uuid, size_bytes)

        return self._creation(volume, make_blocks)

    def find_volume(self, project: str | None, key: UUID | str) -> VolumeRecord:
        """The volume of a UUID or a name; without a project, a UUID of any. Raises NotFound."""
        return self._find(self.volumes, "volume", project, key, {VolumeState.FAILED})

    def update_volume(
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
        volume = self.find_volume(project, key)
        self._check_etag("volume", volume, if_match)
        self._check_open("update", volume)
        size = volume.size_bytes if size_bytes is None else rounded_size(size_bytes)
        if size < volume.size_bytes and not force:
            raise FailedPrecondition(
                f"volume {volume.name} has {volume.size_bytes} bytes; to shrink it to {size} "
                "bytes cuts data off and needs Force"
            )
        if new_name is not None and new_name != volume.name:
            check_name("volume name", new_name)
            self._check_volume_name_free(volume.project, new_name)
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
            else self.tenants.policy_for_volume(volume.project, qos_policy),
        )

        @_blocks(f"volume {volume.name}")
        def resize() -> None:
            if size != volume.size_bytes:
                self._store.resize_volume(volume.uuid, size)

        change: Change[Any] = Change(put=[updated], replaced=[volume], after=resize)
        reservation = self._reservations.get(volume.uuid)
        if reservation is None:
            return change
        decision = leave_out(reservation, lambda host_nqn: acl_admits(updated.acl, host_nqn))
        return self._with_decision(change, volume, decision)

    def reserve(
        self, volume_uuid: UUID, host: Host, command: ReservationCommand
    ) -> Change[ReservationRecord]:
        """Carry out a host's reservation command.

        Raises CommandFailed, for a volume that the host has not (any more) too.
        """
        volume = self.volumes.get(volume_uuid)
        if volume is None or volume.state not in VISIBLE_STATES:
            raise CommandFailed(Status.INVALID_NAMESPACE)
        if not acl_admits(volume.acl, host.nqn):
            raise CommandFailed(Status.INVALID_NAMESPACE)
        decision = decide(self._reservations.get(volume_uuid) or Reservation(), host, command)
        if decision.status:
            raise CommandFailed(decision.status)
        return self._with_decision(Change(), volume, decision)

    def _with_decision(
        self, change: Change[Any], volume: VolumeRecord, decision: Decision
    ) -> Change[Any]:
        """A change that takes a volume's reservation along; it is on disk if it persists or did."""
        before = self._reservations.get(volume.uuid) or Reservation()
        after = decision.reservation
        if before == after:
            return change
        told = ReservationChange(volume.nsid, decision.notices, decision.aborted)

        def take() -> None:
            self._reservations.put(volume.uuid, after)
            self._tell(ClusterChange(reservation=told))

        if not (before.persists or after.persists):
            return replace(change, when_taken=take)
        return replace(
            change,
            put=[*change.put, reservation_record(volume.uuid, after)],
            replaced=[*change.replaced, reservation_record(volume.uuid, before)],
            when_taken=take,
        )

    def delete_volume(
        self, project: str | None, key: UUID | str, *, if_match: str | None = None
    ) -> Change[VolumeRecord]:
        """Begin to delete; hosts lose the namespace at once.

        Raises NotFound, FailedPrecondition (ETag, Failed) and Unavailable (busy).
        """
        volume = self.find_volume(project, key)
        self._check_etag("volume", volume, if_match)
        if volume.state is VolumeState.DELETING:
            return Change()
        self._check_open("delete", volume)
        return Change(put=[replace(volume, state=VolumeState.DELETING, etag=volume.etag + 1)])

    def roll_back_volume(
        self, project: str | None, key: UUID | str, *, snapshot: str | UUID
    ) -> Change[VolumeRecord]:
        """Set a volume's content back to one of its own snapshots; its size stays.

        Raises NotFound, InvalidArgument (another volume's snapshot), FailedPrecondition
        (states, snapshot larger than a volume shrunk since), Unavailable (busy), Internal
        (disk; the content may have gone back then, and asking again completes it).
        """
        volume = self.find_volume(project, key)
        self._check_open("roll back", volume)
        source = self._source(volume.project, snapshot)
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

        @_blocks(f"volume {volume.name}")
        def roll_back() -> None:
            self._store.roll_back(volume.uuid, source.uuid)

        # The blocks go first: after a crash the next start must not do it again, because hosts
        # may have written since.
        rolled = replace(volume, state=VolumeState.ROLLBACK, etag=volume.etag + 1)
        return Change(put=[rolled], before=roll_back)

    def list_volumes(
        self,
        project: str | None,
        *,
        limit: int,
        offset: UUID | None = None,
        show_all: bool = False,
        name: str | None = None,
        uuid: UUID | None = None,
        source_snapshot_uuid: UUID | None = None,
    ) -> list[VolumeRecord]:
        """One page in ascending UUID, of one project or of all. Raises NotFound (project)."""
        volumes = (
            volume
            for volume in self.volumes.after(offset)
            if (show_all or volume.state is not VolumeState.DELETING)
            and source_snapshot_uuid in (None, volume.source_snapshot_uuid)
        )
        return self._page(volumes, project, limit, name, uuid)

    def primary_node_uuid(self, group_id: int) -> UUID | None:
        """The node that serves a volume's I/O now; None when none of its replicas serves."""
        return self._paths.primary(group_id)

    def replica_node_uuids(self, group_id: int) -> Sequence[UUID]:
        """Nodes that hold a volume, in order of preference."""
        return self._paths.group(group_id).node_uuids

    def protection_state(self, volume: VolumeRecord) -> ProtectionState:
        """How many of the volume's replicas serve now."""
        if volume.state is VolumeState.CREATING:
            return ProtectionState.UNKNOWN
        replicas = self.replica_node_uuids(volume.group_id)
        up = sum(self.state_of(self.nodes[node]) is NodeState.ACTIVE for node in replicas)
        if up == len(replicas):
            return ProtectionState.FULLY_PROTECTED
        return ProtectionState.DEGRADED if up else ProtectionState.NOT_AVAILABLE

    # Snapshots

    def create_snapshot(
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
        self.check_project(project)
        check_name("snapshot name", name)
        if retention_seconds is not None and retention_seconds <= 0:
            raise InvalidArgument(
                f"the retention time of snapshot {name} is {retention_seconds:g} seconds; "
                "give a positive one, or none to keep it"
            )
        volume = self.find_volume(project, source_volume)
        if volume.state not in VISIBLE_STATES:
            raise FailedPrecondition(
                f"volume {volume.name} is {volume.state.wire_name}; a snapshot needs it Available"
            )
        namesakes = self.snapshots.named(project, name)
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
        )

        @_blocks(f"snapshot {name}")
        def make_blocks() -> None:
            if not snapshot.doomed:
                self._store.create_snapshot(volume.uuid, snapshot.uuid)

        return self._creation(snapshot, make_blocks)

    def find_snapshot(self, project: str | None, key: UUID | str) -> SnapshotRecord:
        """The snapshot of a UUID or a name. Raises NotFound."""
        dead = {SnapshotState.FAILED, SnapshotState.DELETING}
        return self._find(self.snapshots, "snapshot", project, key, dead)

    def delete_snapshot(
        self, project: str | None, key: UUID | str, *, if_match: str | None = None
    ) -> Change[SnapshotRecord]:
        """Begin to delete; with clones it stays Deleting until they are gone.

        Raises NotFound, FailedPrecondition (ETag, Failed) and Unavailable (Creating).
        """
        snapshot = self.find_snapshot(project, key)
        self._check_etag("snapshot", snapshot, if_match)
        if snapshot.state is SnapshotState.DELETING:
            return Change()
        if snapshot.state is SnapshotState.CREATING:
            raise Unavailable(f"snapshot {snapshot.name} is Creating; delete it once it is made")
        if snapshot.state is SnapshotState.FAILED:
            raise FailedPrecondition(
                f"snapshot {snapshot.name} is Failed and cannot be deleted; "
                "the cluster drops it by itself"
            )
        return Change(put=[replace(snapshot, state=SnapshotState.DELETING, etag=snapshot.etag + 1)])

    def list_snapshots(
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
        snapshots = (
            snapshot
            for snapshot in self.snapshots.after(offset)
            if show_all or snapshot.state is not SnapshotState.DELETING
        )
        return self._page(snapshots, project, limit, name, uuid)

    def compare_snapshots(
        self, project: str, key: UUID | str, base: UUID | str | None, offset_lba: int
    ) -> Comparison:
        """What to look through, from `offset_lba` on, rounded down as the cluster does.

        Raises NotFound, FailedPrecondition (states) and InvalidArgument (base of another volume,
        offset beyond the end).
        """
        snapshot = self._source(project, key)
        base_snapshot = None if base is None else self._source(project, base)
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

    def _page(
        self,
        records: Iterable[Object],
        project: str | None,
        limit: int,
        name: str | None,
        uuid: UUID | None,
    ) -> list[Object]:
        """The first `limit` records that match what is not None."""
        if project is not None:
            self.check_project(project)
        matching = (
            record
            for record in records
            if project in (None, record.project)
            and name in (None, record.name)
            and uuid in (None, record.uuid)
        )
        return list(itertools.islice(matching, limit))

    # Time

    def seconds_to_next_due(self) -> float | None:
        """After how many seconds `finish_due` is wanted; None while nothing is under way."""
        due = self._schedule.next_due()
        return None if due is None else max(0.0, due - self._monotonic())

    def finish_due(self) -> Change[Record]:
        """Everything whose present state ends by now."""
        put: list[Record] = []
        drop: list[Record] = []
        for uuid in self._schedule.pop_due(self._monotonic()):
            if (volume := self.volumes.get(uuid)) is not None:
                if volume.state in (VolumeState.DELETING, VolumeState.FAILED):
                    drop.append(volume)
                else:
                    put.append(replace(volume, state=self._steady_state(volume)))
            elif (snapshot := self.snapshots.get(uuid)) is not None:
                self._finish_snapshot(snapshot, put, drop)
            elif self.nodes[uuid].state is NodeState.ACTIVATING:
                put.append(replace(self.nodes[uuid], state=NodeState.ACTIVE))
            else:
                self._settle(uuid)

        put += [RemovalRecord(record.uuid) for record in drop]
        reservations = [
            reservation_record(record.uuid, reservation)
            for record in drop
            if (reservation := self._reservations.get(record.uuid)) is not None
        ]

        def remove_blocks() -> None:
            for record in drop:
                self._forget_blocks(record)

        return Change(put=put, drop=[*drop, *reservations], after=remove_blocks)

    def _steady_state(self, volume: VolumeRecord) -> VolumeState:
        if volume.uuid in self._failing:
            return VolumeState.FAILED
        migrating = self._held.get(volume.uuid) == VolumeState.MIGRATING.wire_name
        return VolumeState.MIGRATING if migrating else VolumeState.AVAILABLE

    def touch(self, uuid: UUID) -> Change[VolumeRecord | SnapshotRecord]:
        """Give a volume or snapshot a new ETag, as every write does; nothing if it is gone."""
        record = self.volumes.get(uuid) or self.snapshots.get(uuid)
        return Change() if record is None else Change(put=[replace(record, etag=record.etag + 1)])

    def hold(self, uuid: UUID, state: str) -> None:
        """Keep a volume or snapshot in a state (its wire name), whenever it gets there."""
        self._held[uuid] = state

    def release(self, uuids: Iterable[UUID]) -> None:
        """Let objects settle that were held; those that are gone do not matter."""
        for uuid in uuids:
            self._held.pop(uuid, None)
            record = self.volumes.get(uuid) or self.snapshots.get(uuid)
            if record is not None:
                self._schedule_record(record)

    def let_fail(self, uuid: UUID) -> None:
        """Let a volume or snapshot end Failed when its present change does."""
        self._failing.add(uuid)

    def postpone(self, change: Change[Record]) -> None:
        """Try again later what `finish_due` gave and the disk refused."""
        for record in (*change.put, *change.drop):
            self._schedule.set(record.uuid, self._monotonic() + RETRY_SECONDS)

    def _finish_snapshot(
        self, snapshot: SnapshotRecord, put: list[Record], drop: list[Record]
    ) -> None:
        match snapshot.state:
            case SnapshotState.CREATING:
                failed = snapshot.doomed or snapshot.uuid in self._failing
                state = SnapshotState.FAILED if failed else SnapshotState.AVAILABLE
                put.append(replace(snapshot, state=state))
            case SnapshotState.AVAILABLE:  # its retention time is over
                put.append(replace(snapshot, state=SnapshotState.DELETING, etag=snapshot.etag + 1))
            case _ if not self._clones.get(snapshot.uuid):
                drop.append(snapshot)

    def _schedule_record(self, record: Record) -> None:
        """Say when a record's present state ends, if it ends by itself."""
        now = self._monotonic()
        due: float | None = None
        match record:
            case VolumeRecord() | SnapshotRecord() if self._is_held(record):
                pass
            case VolumeRecord(state=VolumeState.AVAILABLE):
                pass
            case (
                VolumeRecord(state=VolumeState.FAILED) | SnapshotRecord(state=SnapshotState.FAILED)
            ):
                due = now + FAILED_KEPT_SECONDS
            case SnapshotRecord(state=SnapshotState.AVAILABLE):
                if record.retention_seconds is not None:
                    age = (self._now() - record.created_at).total_seconds()
                    due = now + max(0.0, record.retention_seconds - age)
            case NodeRecord(state=NodeState.ACTIVE):
                if record.uuid not in self._settled:
                    due = now + self._failback_seconds
            case NodeRecord(state=NodeState.INACTIVE):
                pass
            case VolumeRecord() | SnapshotRecord() | NodeRecord():
                due = now + self._transition_seconds
            case _:
                return
        if due is None:
            self._schedule.cancel(record.uuid)
        else:
            self._schedule.set(record.uuid, due)

    def _is_held(self, record: VolumeRecord | SnapshotRecord) -> bool:
        return self._held.get(record.uuid) == record.state.wire_name

    # Changes

    def make(self, change: Change[Record]) -> None:
        """Do a change's disk work, on any thread. Raises Internal with nothing changed."""
        if change.put or change.drop:
            removed = tuple(self._removed)
            change.make(self._database, also_drop=removed)
            del self._removed[: len(removed)]

    def take(self, change: Change[Record]) -> None:
        """Make true what is durable now, and tell who listens."""
        change.when_taken()
        nsids: set[int] = set()
        nodes_before = self._running, self._serving
        ana = limits = False
        for record in change.drop:
            limits = limits or record.uuid in self._rate_limits
            self._drop(record, nsids)
        for record in change.put:
            match record:
                case VolumeRecord():
                    if self._put_volume(record):
                        nsids.add(record.nsid)
                    limits = self._follow_limits(record) or limits
                case SnapshotRecord():
                    self.snapshots.put(record)
                case PolicyRecord():
                    self.tenants.put(record)
                    for volume in self.tenants.users(record):
                        limits = self._follow_limits(volume) or limits
                case ProjectRecord():
                    self.tenants.put(record)
                case NodeRecord():
                    self._put_node(record)
                case GroupRecord():
                    self._groups[record.group_id] = record
            self._schedule_record(record)
        if any(isinstance(r, NodeRecord | GroupRecord) for r in (*change.put, *change.drop)):
            self._regroup()
            moved = any(isinstance(record, GroupRecord) for record in change.drop)
            ana = self._follow_nodes() or moved
        nodes = nodes_before != (self._running, self._serving)
        self._tell(ClusterChange(frozenset(nsids), ana, nodes, limits))

    def carry_out(self, change: Change[R]) -> Change[R]:
        """Make and take a change at once, where nobody minds waiting for the disk."""
        self.make(change)
        self.take(change)
        return change

    def _tell(self, change: ClusterChange) -> None:
        if change != ClusterChange():
            for listener in tuple(self._listeners):
                listener(change)

    def _settle(self, node_uuid: UUID) -> None:
        """Hosts had their time to reconnect to this node: it may be primary again."""
        if node_uuid not in self._frozen:
            self._settled.add(node_uuid)
            self._tell(ClusterChange(ana=self._follow_nodes()))

    def _creation(self, record: Object, make_blocks: Callable[[], None]) -> Change[Object]:
        return Change(put=[record], before=make_blocks, undo=lambda: self._forget_blocks(record))

    def _put_node(self, node: NodeRecord) -> None:
        before = self.nodes.get(node.uuid)
        self.nodes[node.uuid] = node
        self.nodes = dict(sorted(self.nodes.items(), key=lambda item: item[1].index))
        moved = before is not None and before.address != node.address
        if moved or node.state is not NodeState.ACTIVE:
            self._settled.discard(node.uuid)

    def _put_volume(self, volume: VolumeRecord) -> bool:
        """Take a volume into every index; True when hosts see a difference."""
        before = self.volumes.get(volume.uuid)
        if before is None:
            self._nsids.add(volume.nsid)
            self._last_nsid = volume.nsid
        elif before.group_id != volume.group_id:
            self._paths.remove(before.group_id, volume.nsid)
        self.volumes.put(volume)
        if volume.source_snapshot_uuid is not None:
            self._clones.setdefault(volume.source_snapshot_uuid, set()).add(volume.uuid)
        if volume.state in VISIBLE_STATES:
            self._paths.add(volume.group_id, volume.nsid)
        else:
            self._paths.remove(volume.group_id, volume.nsid)
        return self._access.put(volume)

    def _follow_limits(self, volume: VolumeRecord) -> bool:
        """Derive what a volume may do from its policy and size; True when it changed."""
        before = self.rate_limits(volume.uuid)
        after = self.tenants.rate_limits(volume)
        if after == NO_LIMITS:
            self._rate_limits.pop(volume.uuid, None)
        else:
            self._rate_limits[volume.uuid] = after
        return after != before

    def _drop(self, record: Record, nsids: set[int]) -> None:
        self._held.pop(record.uuid, None)
        self._failing.discard(record.uuid)
        if isinstance(record, SnapshotRecord):
            self.snapshots.drop(record)
            self._schedule.cancel(record.uuid)
        elif isinstance(record, VolumeRecord):
            self.volumes.drop(record)
            self._rate_limits.pop(record.uuid, None)
            self._reservations.drop(record.uuid)
            self._schedule.cancel(record.uuid)
            self._nsids.discard(record.nsid)
            self._paths.remove(record.group_id, record.nsid)
            if self._access.drop(record.nsid):
                nsids.add(record.nsid)
            if record.source_snapshot_uuid is not None:
                self._drop_clone(record.source_snapshot_uuid, record.uuid)
        elif isinstance(record, PolicyRecord | ProjectRecord):
            self.tenants.drop(record)
        elif isinstance(record, NodeRecord):
            del self.nodes[record.uuid]
            self._settled.discard(record.uuid)
            self._schedule.cancel(record.uuid)
        elif isinstance(record, GroupRecord):
            del self._groups[record.group_id]

    def _drop_clone(self, snapshot_uuid: UUID, volume_uuid: UUID) -> None:
        clones = self._clones[snapshot_uuid]
        clones.discard(volume_uuid)
        if not clones:
            del self._clones[snapshot_uuid]
            snapshot = self.snapshots.get(snapshot_uuid)
            if snapshot is not None and snapshot.state is SnapshotState.DELETING:
                self._schedule.set(snapshot.uuid, self._monotonic())

    def _follow_nodes(self) -> bool:
        """Derive serving nodes and primaries from the node states; True when ANA changed."""
        self._running = tuple(
            self.node_view(node) for node in self.nodes.values() if node.state is NodeState.ACTIVE
        )
        serving = tuple(node for node in self._running if node.uuid not in self._frozen)
        if serving != self._serving:
            self._serving = serving
            self._discovery_generation += 1
        leaders = self._settled - self._demoted
        return self._paths.follow({node.uuid for node in serving}, leaders)

    def _forget_blocks(self, record: Record) -> None:
        if isinstance(record, SnapshotRecord) and record.doomed:
            return
        if isinstance(record, VolumeRecord | SnapshotRecord):
            try:
                with contextlib.suppress(KeyError):  # gone already is what we want
                    self._store.delete(record.uuid)
                self._removed.append(RemovalRecord(record.uuid))
            except OSError as cause:
                LOG.error(
                    "blocks of %s %s stay until the next start: %s",
                    record.kind,
                    record.uuid,
                    cause,
                )

    # Start

    def _reconcile(self) -> None:
        """Make blocks and metadata agree: end removals, drop what a crash left, redo resizes.

        Other blocks that nothing names stay: the metadata may be an older copy of what it was.
        """
        named = set(self.volumes) | {s.uuid for s in self.snapshots.values() if not s.doomed}
        held = self._store.uuids()
        if missing := named - held:
            raise LabError(
                f"the state folder is damaged: the blocks of {len(missing)} volumes or snapshots "
                f"are missing, {min(missing)} among them; restore the folder or choose another "
                "--state-dir"
            )
        removals = self._database.load(RemovalRecord)
        unnamed = held - named
        unknown = unnamed - {removal.uuid for removal in removals}
        # One change is made at a time, so a crash leaves one object at most, just made.
        if len(unknown) == 1 and all(map(self._store.is_untouched, unknown)):
            unknown = frozenset()
        for uuid in unnamed - unknown:
            LOG.info("removing blocks %s that no volume or snapshot names", uuid)
            self._store.delete(uuid)
        if removals:
            self._database.commit(drop=removals)
        if unknown:
            LOG.warning(
                "keeping the blocks of %d volumes or snapshots that the metadata does not know, "
                "%s among them: if it is an older copy, stop the lab and restore the newest one",
                len(unknown),
                min(unknown),
            )
        for volume in self.volumes.values():
            if volume.state is VolumeState.UPDATING:
                self._store.resize_volume(volume.uuid, volume.size_bytes)

    def _resume(self) -> None:
        for table in (self.nodes, self.volumes, self.snapshots):
            for record in table.values():
                self._schedule_record(record)

    # Checks

    def _find(
        self,
        table: Table[Object],
        kind: str,
        project: str | None,
        key: UUID | str,
        dead: Iterable[VolumeState | SnapshotState],
    ) -> Object:
        """By UUID, or by name: the newest of that name, one that lives before a dead one."""
        if project is not None:
            self.check_project(project)
        where = f" in project {project}" if project else ""
        if isinstance(key, UUID):
            record = table.get(key)
            if record is None or project not in (None, record.project):
                raise NotFound(f"{kind} {key} does not exist{where}")
            return record
        namesakes = [] if project is None else table.named(project, key)
        if not namesakes:
            raise NotFound(f"{kind} named {key} does not exist{where}")
        living = [record for record in namesakes if record.state not in dead]
        return (living or namesakes)[-1]

    def _source(self, project: str, key: str | UUID) -> SnapshotRecord:
        snapshot = self.find_snapshot(project, key)
        if snapshot.state is not SnapshotState.AVAILABLE:
            raise FailedPrecondition(
                f"snapshot {snapshot.name} is {snapshot.state.wire_name}; it must be Available"
            )
        return snapshot

    @staticmethod
    def _check_etag(kind: str, record: VolumeRecord | SnapshotRecord, if_match: str | None) -> None:
        if if_match and if_match.strip('"') != str(record.etag):
            raise FailedPrecondition(
                f"ETag mismatch on {kind} {record.name}: it changed since it was read; "
                "read it again"
            )

    @staticmethod
    def _check_open(verb: str, volume: VolumeRecord) -> None:
        """Steady volumes take every operation, transient ones none, ending ones never again."""
        if volume.state in (VolumeState.AVAILABLE, VolumeState.MIGRATING):
            return
        text = f"cannot {verb} volume {volume.name}: it is {volume.state.wire_name}"
        if volume.state in (VolumeState.DELETING, VolumeState.FAILED):
            raise FailedPrecondition(text)
        raise Unavailable(f"{text}; try again")

    def _check_volume_name_free(self, project: str, name: str) -> None:
        if any(v.state is not VolumeState.FAILED for v in self.volumes.named(project, name)):
            raise AlreadyExists(f"volume {name} already exists in project {project}")

    def _check_replica_count(self, replica_count: int) -> None:
        if not 1 <= replica_count <= MAX_REPLICAS:
            raise InvalidArgument(
                f"replicaCount {replica_count} is not supported; use 1 to {MAX_REPLICAS}"
            )
        if replica_count > len(self.nodes):
            raise InvalidArgument(
                f"{replica_count} replicas need {replica_count} nodes, "
                f"and this cluster has {len(self.nodes)}"
            )

    def _group_for(self, replica_count: int, snapshot: SnapshotRecord | None) -> int:
        """A clone stays where its snapshot's blocks are, if it has as many replicas."""
        if snapshot is not None and snapshot.replica_count == replica_count:
            return snapshot.group_id
        group = choose_group(
            self._paths.groups,
            replica_count,
            {node.uuid for node in self._serving},
            self._paths.volumes_of_group(),
        )
        if group is None:
            raise Unavailable("no storage node is active; start one")
        return group.group_id

    def _free_nsid(self) -> int:
        """The next id upwards, round and round: hosts should not soon see one used again."""
        for step in range(MAX_NAMESPACES):
            nsid = (self._last_nsid + step) % MAX_NAMESPACES + 1
            if nsid not in self._nsids:
                return nsid
        raise Unavailable(f"the cluster is full: it holds {MAX_NAMESPACES} volumes")


@contextlib.contextmanager
def _blocks(what: str) -> Iterator[None]:
    """Turn a failing disk into a refusal that names the object and the fix."""
    try:
        yield
    except OSError as cause:
        full = cause.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "free space on the disk of the lab's state folder" if full else "check that disk"
        raise Internal(f"the lab cannot store {what}: {cause}; {fix} and try again") from cause
