# SPDX-License-Identifier: Apache-2.0
"""The services of each storage node: up while the cluster says that the node serves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from uuid import UUID

from lightos.lab.changes import ChangeQueue
from lightos.lab.cluster import Cluster
from lightos.lab.errors import LabError
from lightos.lab.view import ClusterChange, NodeView

LOG = logging.getLogger(__name__)

StartNode = Callable[[NodeView, contextlib.AsyncExitStack], Awaitable[None]]
"""Starts a node's services and leaves how to close them on the stack."""


class NodeServices:
    """Starts and ends the services of nodes as they come and go."""

    def __init__(self, cluster: Cluster, changes: ChangeQueue, start: StartNode) -> None:
        self._cluster = cluster
        self._changes = changes
        self._start = start
        self._running: dict[UUID, contextlib.AsyncExitStack] = {}
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsubscribe: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Start every serving node. Raises LabError when one of them cannot listen."""
        for node in self._cluster.serving_nodes():
            await self._open(node)
        self._unsubscribe = self._cluster.subscribe(self._changed)

    def _changed(self, change: ClusterChange) -> None:
        if change.nodes:
            task = asyncio.get_running_loop().create_task(self._follow())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _follow(self) -> None:
        async with self._turn:
            serving = {node.uuid: node for node in self._cluster.serving_nodes()}
            for uuid in self._running.keys() - serving.keys():
                await self._running.pop(uuid).aclose()
            for uuid in serving.keys() - self._running.keys():
                try:
                    await self._open(serving[uuid])
                except (LabError, OSError) as cause:
                    LOG.error("%s cannot serve and is stopped: %s", serving[uuid].name, cause)
                    await self._changes.carry_out(self._cluster.stop_node, uuid)

    async def _open(self, node: NodeView) -> None:
        async with contextlib.AsyncExitStack() as stack:
            await self._start(node, stack)
            self._running[node.uuid] = stack.pop_all()

    async def close(self) -> None:
        self._unsubscribe()
        await asyncio.gather(*self._tasks)
        await asyncio.gather(*(stack.aclose() for stack in self._running.values()))
