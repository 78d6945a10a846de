# SPDX-License-Identifier: Apache-2.0
"""The storage nodes: who there is, who serves, and who holds what, as primary or replica.

No service of theirs is here; `lightos.lab.node_services` runs those.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4, uuid5

from lightos.api.models.volumes import PlacementRestriction
from lightos.lab.changes import Change
from lightos.lab.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from lightos.lab.lifecycle import Lifecycle
from lightos.lab.paths import Paths
from lightos.lab.placement import (
    MAX_NODES,
    PlacementGroup,
    admitted_nodes,
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
    ProtectionState,
    SnapshotRecord,
    VolumeRecord,
    VolumeState,
)
from lightos.lab.subscribers import Subscribers
from lightos.lab.view import ClusterChange, NodeView

CONTROLLER_IDS_PER_NODE = 4096


class Nodes(Mapping[UUID, NodeRecord]):
    """The nodes of one cluster by UUID, in order of their index, and what can be done with them."""

    def __init__(
        self,
        records: Iterable[NodeRecord],
        groups: Iterable[GroupRecord],
        *,
        cluster: ClusterRecord,
        discovery_generation: int,
        volumes: Mapping[UUID, VolumeRecord],
        snapshots: Mapping[UUID, SnapshotRecord],
        paths: Paths,
        lifecycle: Lifecycle,
        subscribers: Subscribers,
    ) -> None:
        """`volumes` and `snapshots` are the cluster's own tables; `paths` follows the nodes.

        Without `groups`, which are kept since nodes joined or left, they follow from the nodes.
        """
        self.running: tuple[NodeView, ...] = ()
        self.serving: tuple[NodeView, ...] = ()
        self.discovery_generation = discovery_generation
        self._cluster = cluster
        self._volumes = volumes
        self._snapshots = snapshots
        self._paths = paths
        self._lifecycle = lifecycle
        self._subscribers = subscribers
        self._nodes = {node.uuid: node for node in sorted(records, key=lambda node: node.index)}
        self._frozen: Set[UUID] = frozenset()
        self._demoted: Set[UUID] = frozenset()
        lifecycle.settled |= {n.uuid for n in self._nodes.values() if n.state is NodeState.ACTIVE}
        self._groups = {
            record.group_id: record
            for record in tuple(groups) or self._group_records(placement_groups(tuple(self._nodes)))
        }
        self.follow()

    def __getitem__(self, uuid: UUID) -> NodeRecord:
        return self._nodes[uuid]

    def __iter__(self) -> Iterator[UUID]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    # Operations

    def find(self, uuid: UUID) -> NodeRecord:
        """Raises NotFound."""
        if (node := self._nodes.get(uuid)) is None:
            raise NotFound(f"node {uuid} does not exist")
        return node

    def matching(
        self,
        *,
        name: str | None = None,
        uuid: UUID | None = None,
        failure_domain: str | None = None,
    ) -> list[NodeRecord]:
        """Nodes that match what is not None; those that do not exist are none.

        Raises InvalidArgument where each filter has nodes and all together have none.
        """
        filtered = [
            [node for node in self._nodes.values() if name in (None, node.name)],
            [node for node in self._nodes.values() if uuid in (None, node.uuid)],
            [n for n in self._nodes.values() if failure_domain in (None, n.failure_domain)],
        ]
        found = [node for node in self._nodes.values() if all(node in nodes for nodes in filtered)]
        if not found and all(filtered):
            raise InvalidArgument("name, UUID and failureDomain are of different nodes")
        return found

    def stop(self, uuid: UUID) -> Change[NodeRecord]:
        """End a node at once; its groups move to the next serving replica."""
        return Change(put=[replace(self.find(uuid), state=NodeState.INACTIVE)])

    def start(self, uuid: UUID) -> Change[NodeRecord]:
        """Begin to start a node; it serves after the transition time."""
        node = self.find(uuid)
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
        nodes_before = self.serving
        self._lifecycle.settled -= frozen - self._frozen
        for uuid in self._frozen - frozen:
            if uuid in self._nodes:
                self._lifecycle.follow(self._nodes[uuid])
        self._frozen, self._demoted = frozen, demoted
        ana = self._follow_states()
        self._subscribers.tell(ClusterChange(ana=ana, nodes=nodes_before != self.serving))
        return Change()

    def named(self, name: str) -> NodeRecord:
        """Raises NotFound."""
        for node in self._nodes.values():
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self._nodes.values())
        raise NotFound(f"there is no node {name[:64]}; nodes are {names}")

    def add(self, address: str) -> Change[NodeRecord]:
        """Have one more node; it serves after the transition time, and gets new volumes.

        Raises AlreadyExists for another node's address and FailedPrecondition when the cluster
        is as large as can be.
        """
        self._check_address_free(address)
        used = {node.index for node in self._nodes.values()}
        index = next((number for number in range(MAX_NODES) if number not in used), None)
        if index is None:
            raise FailedPrecondition(f"the cluster has {MAX_NODES} nodes, as many as can be")
        node = NodeRecord(uuid4(), index, f"node{index + 1}", address, NodeState.ACTIVATING)
        return self._membership_change([*self._nodes.values(), node], put=[node])

    def remove(self, uuid: UUID) -> Change[NodeRecord]:
        """Have a node less; its replicas are rebuilt on the others at once.

        Raises NotFound, and FailedPrecondition where a volume or snapshot has more replicas than
        nodes would be left, no other replica that serves while this node does not, or no other
        node that it may be on.
        """
        node = self.find(uuid)
        left = [other for other in self._nodes.values() if other.uuid != uuid]
        if not left:
            raise FailedPrecondition(f"{node.name} is the only node; end the lab instead")
        kept: Iterable[VolumeRecord | SnapshotRecord] = itertools.chain(
            self._volumes.values(), self._snapshots.values()
        )
        for record in kept:
            replicas = self.replicas(record.group_id)
            what = f"{record.kind} {record.name} of project {record.project}"
            if record.replica_count > len(left):
                raise FailedPrecondition(
                    f"{what} has {record.replica_count} replicas, and without {node.name} there "
                    f"are {len(left)} nodes: add a node first, or delete it"
                )
            sources = [r for r in replicas if self.state_of(self._nodes[r]) is NodeState.ACTIVE]
            if uuid in replicas and not sources:
                raise FailedPrecondition(
                    f"{what} would lose its last replica with {node.name}, since no node that has "
                    "one serves: start one of them first, or delete it"
                )
            if uuid in replicas and not self._admitted(record.placement_restrictions) - {uuid}:
                raise FailedPrecondition(
                    f"the placementRestrictions of {what} admit {node.name} only: delete it first"
                )
        return self._membership_change(left, drop=[node])

    def move(self, uuid: UUID, address: str) -> Change[NodeRecord]:
        """Give a node another address, where hosts first have to find it.

        Raises NotFound, and AlreadyExists for another node's address.
        """
        node = self.find(uuid)
        if node.address == address:
            return Change()
        self._check_address_free(address)
        return Change(put=[replace(node, address=address)])

    def _check_address_free(self, address: str) -> None:
        for node in self._nodes.values():
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
            self._volumes.values(), self._snapshots.values()
        )
        moved = [
            replace(record, group_id=self._successor(record, groups) or moves[record.group_id])
            for record in kept
            if record.group_id in moves
        ]
        gone = [group for number, group in self._groups.items() if number not in left]
        return Change(put=[*put, *moved, *self._group_records(groups)], drop=[*drop, *gone])

    def _successor(
        self, record: VolumeRecord | SnapshotRecord, groups: Iterable[PlacementGroup]
    ) -> int | None:
        """Where something goes whose group is no more; None where it may be on every node."""
        if not record.placement_restrictions:
            return None
        return successors(self._paths.groups, self._within(record.placement_restrictions, groups))[
            record.group_id
        ]

    def _group_records(self, groups: Iterable[PlacementGroup]) -> list[GroupRecord]:
        return [
            GroupRecord(
                uuid5(self._cluster.uuid, f"group {group.group_id}"),
                group.group_id,
                group.node_uuids,
            )
            for group in groups
        ]

    # Placement

    def primary(self, group_id: int) -> UUID | None:
        """The node that serves a volume's I/O now; None when none of its replicas serves."""
        return self._paths.primary(group_id)

    def primaries(self) -> dict[int, UUID | None]:
        """The primary of every placement group, as `primary` gives it."""
        return {each.group_id: self._paths.primary(each.group_id) for each in self._paths.groups}

    def replicas(self, group_id: int) -> Sequence[UUID]:
        """Nodes that hold a volume, in order of preference."""
        return self._paths.group(group_id).node_uuids

    def protection_state(self, volume: VolumeRecord) -> ProtectionState:
        """How many of the volume's replicas serve now."""
        if volume.state is VolumeState.CREATING:
            return ProtectionState.UNKNOWN
        replicas = self.replicas(volume.group_id)
        up = sum(self.state_of(self._nodes[node]) is NodeState.ACTIVE for node in replicas)
        if up == len(replicas):
            return ProtectionState.FULLY_PROTECTED
        return ProtectionState.DEGRADED if up else ProtectionState.NOT_AVAILABLE

    def failure_domains(self, group_id: int) -> frozenset[str]:
        """Those that hold a replica of a volume."""
        return frozenset(self._nodes[node].failure_domain for node in self.replicas(group_id))

    def admits(self, restrictions: Sequence[PlacementRestriction], group_id: int) -> bool:
        """Whether a volume with these restrictions may be where that group is."""
        return bool(self._within(restrictions, [self._paths.group(group_id)]))

    def _within(
        self, restrictions: Sequence[PlacementRestriction], groups: Iterable[PlacementGroup]
    ) -> list[PlacementGroup]:
        admitted = self._admitted(restrictions)
        return [group for group in groups if admitted.issuperset(group.node_uuids)]

    def _admitted(self, restrictions: Sequence[PlacementRestriction]) -> frozenset[UUID]:
        domains = {node.uuid: node.failure_domain for node in self._nodes.values()}
        return admitted_nodes(restrictions, domains, self._cluster.uuid)

    def group_for(
        self,
        replica_count: int,
        restrictions: Sequence[PlacementRestriction],
        volumes_of_group: Mapping[int, int],
    ) -> int:
        """The placement group of a new volume.

        Raises InvalidArgument when the restrictions admit no node, Unavailable when none serves.
        """
        groups = self._within(restrictions, self._paths.groups)
        if not groups:
            raise InvalidArgument("the placementRestrictions admit no node of this cluster")
        group = choose_group(
            groups,
            replica_count,
            {node.uuid for node in self.serving},
            volumes_of_group,
        )
        if group is None:
            where = " that the placementRestrictions admit" if restrictions else ""
            raise Unavailable(f"no storage node{where} is active; start one")
        return group.group_id

    # Changes

    def put(self, node: NodeRecord) -> None:
        """Take what is durable now; `follow` takes in what comes of it."""
        before = self._nodes.get(node.uuid)
        self._nodes[node.uuid] = node
        self._nodes = dict(sorted(self._nodes.items(), key=lambda item: item[1].index))
        moved = before is not None and before.address != node.address
        if moved or node.state is not NodeState.ACTIVE:
            self._lifecycle.settled.discard(node.uuid)

    def drop(self, node: NodeRecord) -> None:
        del self._nodes[node.uuid]
        self._lifecycle.settled.discard(node.uuid)

    def put_group(self, group: GroupRecord) -> None:
        self._groups[group.group_id] = group

    def drop_group(self, group: GroupRecord) -> None:
        del self._groups[group.group_id]

    def follow(self) -> bool:
        """Derive groups, serving nodes and primaries anew; True when ANA changed."""
        self._paths.regroup(
            PlacementGroup(record.group_id, record.node_uuids) for record in self._groups.values()
        )
        return self._follow_states()

    def settle(self, node_uuid: UUID) -> None:
        """Hosts had their time to reconnect to this node: it may be primary again."""
        if node_uuid not in self._frozen:
            self._lifecycle.settled.add(node_uuid)
            self._subscribers.tell(ClusterChange(ana=self._follow_states()))

    def _follow_states(self) -> bool:
        self.running = tuple(
            _view(node) for node in self._nodes.values() if node.state is NodeState.ACTIVE
        )
        serving = tuple(node for node in self.running if node.uuid not in self._frozen)
        if serving != self.serving:
            self.serving = serving
            self.discovery_generation += 1
        leaders = self._lifecycle.settled - self._demoted
        return self._paths.follow({node.uuid for node in serving}, leaders)


def _view(node: NodeRecord) -> NodeView:
    return NodeView(
        uuid=node.uuid,
        name=node.name,
        address=node.address,
        controller_id_base=node.index * CONTROLLER_IDS_PER_NODE + 1,
    )
