# SPDX-License-Identifier: Apache-2.0
"""The first start of a cluster, and what a later start may change about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from uuid import uuid4

from lightos.lab.database import Database
from lightos.lab.errors import LabError
from lightos.lab.records import ClusterRecord, NodeRecord, NodeState, ProjectRecord, Record

CLUSTER_NAME = "lab"
DEFAULT_PROJECT = "default"


def found_cluster(
    database: Database, addresses: Sequence[str], projects: Iterable[str] = ()
) -> None:
    """Make the cluster on first use; later, bring addresses and projects up to date.

    Raises LabError when there are not as many nodes as the cluster was made with, since
    volumes are placed on those.
    """
    put: list[Record] = []
    nodes = sorted(database.load(NodeRecord), key=lambda node: node.index)
    if not nodes:
        put.append(ClusterRecord(uuid4(), CLUSTER_NAME))
        put += [
            NodeRecord(uuid4(), index, f"node{index + 1}", address, NodeState.ACTIVE)
            for index, address in enumerate(addresses)
        ]
    elif len(nodes) != len(addresses):
        raise LabError(
            f"the state folder holds a cluster of {len(nodes)} nodes, not {len(addresses)}: "
            f"give {len(nodes)} addresses, or choose another --state-dir"
        )
    else:
        put += [
            replace(node, address=address) for node, address in zip(nodes, addresses, strict=True)
        ]
    known = {project.name for project in database.load(ProjectRecord)}
    wanted = dict.fromkeys((DEFAULT_PROJECT, *projects))
    put += [ProjectRecord(uuid4(), name) for name in wanted if name not in known]
    database.commit(put)
