# SPDX-License-Identifier: Apache-2.0
"""The hosts that are connected now: those with an I/O controller on some node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from lightos.lab.records import NodeRecord
from lightos.lab.target import NodeServer
from lightos.lab.target.io_controller import IoController


@dataclass(frozen=True)
class ConnectedHosts:
    """Looks at the running services of `nodes` each time it is asked."""

    nodes: Mapping[UUID, NodeRecord]
    servers: Mapping[UUID, NodeServer]

    def controllers(self) -> dict[UUID, list[IoController]]:
        """The I/O controllers that hosts have, by node."""
        return {
            uuid: [
                each for each in server.io.controllers.values() if isinstance(each, IoController)
            ]
            for uuid, server in self.servers.items()
            if uuid in self.nodes  # a node that has left goes on for a moment
        }

    def paths(self) -> dict[str, list[tuple[NodeRecord, IoController]]]:
        """The same by host NQN, in their order."""
        found: defaultdict[str, list[tuple[NodeRecord, IoController]]] = defaultdict(list)
        for uuid, controllers in self.controllers().items():
            for controller in controllers:
                found[controller.host_nqn].append((self.nodes[uuid], controller))
        return dict(sorted(found.items()))


def visible_volumes(paths: list[tuple[NodeRecord, IoController]]) -> set[UUID]:
    """The volumes that a host sees by any of its controllers."""
    return {view.uuid for _, controller in paths for view in controller.blocks.namespaces.values()}
