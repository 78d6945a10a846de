# SPDX-License-Identifier: Apache-2.0
"""Takes all that tenants and testers made away from a lab that goes on running."""

from __future__ import annotations

from lightos.lab.changes import ChangeQueue
from lightos.lab.cluster import Cluster
from lightos.lab.faults.calls import Faults
from lightos.lab.records import NodeState
from lightos.lab.tokens import Tokens


class Reset:
    """Takes away volumes, snapshots, projects, policies, credentials and faults.

    Also projects that the lab was started with, but for `default`; nodes, certificates and the key
    stay.
    """

    def __init__(
        self, cluster: Cluster, changes: ChangeQueue, faults: Faults, tokens: Tokens
    ) -> None:
        self._cluster = cluster
        self._changes = changes
        self._faults = faults
        self._tokens = tokens

    async def run(self) -> None:
        """Clear faults and forget all objects at once, whatever their state; start stopped nodes.

        Raises Internal (disk).
        """
        await self._faults.clear()
        await self._changes.carry_out(self._cluster.forget_all)
        for node in list(self._cluster.nodes.values()):
            if node.state is NodeState.INACTIVE:
                await self._changes.carry_out(self._cluster.nodes.start, node.uuid)
        await self._tokens.drop_others()
