# SPDX-License-Identifier: Apache-2.0
"""The first start of a cluster, and what a later start may change about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from uuid import uuid4

from lightos.api.models.values import DEFAULT_PROJECT
from lightos.lab.database import Database
from lightos.lab.errors import LabError
from lightos.lab.placement import DEFAULT_NODES
from lightos.lab.records import (
    ClusterRecord,
    GroupRecord,
    NodeRecord,
    NodeState,
    ProjectRecord,
    Record,
    SnapshotRecord,
    VolumeRecord,
)

CLUSTER_NAME = "lab"


def loopback_addresses(count: int) -> list[str]:
    """127.0.0.1 upwards; Linux answers on all of 127.0.0.0/8."""
    return [f"127.0.0.{host}" for host in range(1, count + 1)]


def anywhere(_address: str) -> None:
    """Let nodes have any address."""


def found_cluster(
    database: Database,
    *,
    node_count: int | None = None,
    addresses: Sequence[str] | None = None,
    projects: Iterable[str] = (),
    check_address: Callable[[str], None] = anywhere,
) -> None:
    """Make the cluster on first use; later, bring addresses and projects up to date.

    What is not given stays as it is, at first three nodes on loopback. Raises LabError when
    the number of nodes differs and there are volumes, since those are placed on nodes. What
    `check_address` raises for an address that a node would get keeps everything as it was.
    """
    count = len(addresses) if addresses else node_count
    nodes = sorted(database.load(NodeRecord), key=lambda node: node.index)
    put: list[Record] = []
    drop: list[Record] = []
    if not database.load(ClusterRecord):
        put.append(ClusterRecord(uuid4(), CLUSTER_NAME))
    if count not in (None, len(nodes)) and nodes:
        placed: list[type[Record]] = [VolumeRecord, SnapshotRecord]
        if any(database.load(kind) for kind in placed):
            raise LabError(
                f"the state folder holds a cluster of {len(nodes)} nodes, not {count}, and it has "
                f"volumes: start it with {len(nodes)}, or choose another --state-dir"
            )
        drop += [*nodes, *database.load(GroupRecord)]
        nodes = []
    if not nodes:
        addresses = addresses or loopback_addresses(count or DEFAULT_NODES)
        put += [
            NodeRecord(uuid4(), index, f"node{index + 1}", address, NodeState.ACTIVE)
            for index, address in enumerate(addresses)
        ]
    elif addresses:
        put += [
            replace(node, address=address) for node, address in zip(nodes, addresses, strict=True)
        ]
    had = {node.address for node in nodes}
    for record in put:
        if isinstance(record, NodeRecord) and record.address not in had:
            check_address(record.address)
    known = {project.name for project in database.load(ProjectRecord)}
    wanted = dict.fromkeys((DEFAULT_PROJECT, *projects))
    put += [ProjectRecord(uuid4(), name) for name in wanted if name not in known]
    database.commit(put, drop)
