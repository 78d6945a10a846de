# SPDX-License-Identifier: Apache-2.0
"""Which nodes hold a volume, and which of them serves it now. Pure functions.

A placement group is an ordered list of nodes: the first that serves is the primary. Every
volume belongs to one group, and a group is one ANA group, so their number is bounded: for
each replica count the rotations of the node list, at most three times the number of nodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from lightos.api.models.volumes import MatchKey, MatchPair, PlacementRestriction

MAX_REPLICAS = 3
MAX_NODES = 15
"""Each node has 4096 of the 65520 controller ids."""
DEFAULT_NODES = 3
MAX_GROUPS = MAX_REPLICAS * MAX_NODES


@dataclass(frozen=True)
class PlacementGroup:
    """`node_uuids` in order of preference; `group_id` is the ANA group id, from 1."""

    group_id: int
    node_uuids: tuple[UUID, ...]

    @property
    def replica_count(self) -> int:
        return len(self.node_uuids)


def placement_groups(node_uuids: Sequence[UUID]) -> tuple[PlacementGroup, ...]:
    """Every group of a cluster of these nodes, in ascending group id."""
    count = len(node_uuids)
    lists = [
        tuple(node_uuids[(first + step) % count] for step in range(replicas))
        for replicas in range(1, min(MAX_REPLICAS, count) + 1)
        for first in range(count)
    ]
    return tuple(PlacementGroup(number, nodes) for number, nodes in enumerate(lists, start=1))


def regrouped(
    groups: Sequence[PlacementGroup], node_uuids: Sequence[UUID]
) -> tuple[PlacementGroup, ...]:
    """The groups once the cluster's nodes are these: each node heads one per replica count.

    A group whose first node is still there keeps its id and its other nodes that are, too; places
    that became free go to the nodes that follow its first. New groups get the lowest free ids.
    """
    kept = {(group.replica_count, group.node_uuids[0]): group for group in groups}
    wanted = [
        (replicas, head)
        for replicas in range(1, min(MAX_REPLICAS, len(node_uuids)) + 1)
        for head in range(len(node_uuids))
    ]
    taken = {kept[key].group_id for r, h in wanted if (key := (r, node_uuids[h])) in kept}
    free = (number for number in itertools.count(1) if number not in taken)
    result = []
    for replicas, head in wanted:
        old = kept.get((replicas, node_uuids[head]))
        rotation = (*node_uuids[head:], *node_uuids[:head])
        stay = [node for node in old.node_uuids if node in node_uuids] if old else []
        members = tuple(dict.fromkeys((*stay, *rotation)))[:replicas]
        result.append(PlacementGroup(old.group_id if old else next(free), members))
    return tuple(sorted(result, key=lambda group: group.group_id))


def successors(before: Sequence[PlacementGroup], after: Sequence[PlacementGroup]) -> dict[int, int]:
    """Where volumes of groups that are no more go: to the group that their next replica heads.

    Groups of replica counts that the cluster is too small for have none.
    """
    heads = {(group.replica_count, group.node_uuids[0]): group.group_id for group in after}
    left = {group.group_id for group in after}
    found = {}
    for group in before:
        if group.group_id not in left:
            others = (node for _, node in heads)
            for node in (*group.node_uuids, *others):
                if (successor := heads.get((group.replica_count, node))) is not None:
                    found[group.group_id] = successor
                    break
    return found


def primary_of(
    group: PlacementGroup, serving: Collection[UUID], settled: Collection[UUID]
) -> UUID | None:
    """The serving node that a group's I/O goes to; None when no replica serves.

    A node that came back is `serving` at once but `settled` only when hosts had time to
    reconnect to it; until then a settled replica stays primary.
    """
    candidates = [node for node in group.node_uuids if node in serving]
    return next((node for node in candidates if node in settled), next(iter(candidates), None))


def admitted_nodes(
    restrictions: Iterable[PlacementRestriction], domains: Mapping[UUID, str], cluster: UUID
) -> frozenset[UUID]:
    """The nodes, by their failure domains, that every restriction admits by one of its pairs."""
    return frozenset(
        node
        for node, domain in domains.items()
        if all(
            any(_names(pair, domain, cluster) for pair in restriction.pairs)
            for restriction in restrictions
        )
    )


def _names(pair: MatchPair, domain: str, cluster: UUID) -> bool:
    """The domain of the primary is that of the only replica, as more have no restrictions."""
    return pair.value == (str(cluster) if pair.key is MatchKey.CLUSTER_ID else domain)


def choose_group(
    groups: Sequence[PlacementGroup],
    replica_count: int,
    serving: Collection[UUID],
    volumes_of_group: Mapping[int, int],
) -> PlacementGroup | None:
    """Where a new volume goes: most replicas up, then preferred node up, then least used.

    None when no group of that replica count has a serving node.
    """
    candidates = [
        group
        for group in groups
        if group.replica_count == replica_count and any(n in serving for n in group.node_uuids)
    ]
    return min(
        candidates,
        key=lambda group: (
            sum(node not in serving for node in group.node_uuids),
            group.node_uuids[0] not in serving,
            volumes_of_group.get(group.group_id, 0),
            group.group_id,
        ),
        default=None,
    )
