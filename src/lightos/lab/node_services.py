# SPDX-License-Identifier: Apache-2.0
"""The services of each storage node: up while the cluster says that the node serves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from lightos.lab.changes import ChangeQueue
from lightos.lab.cluster import Cluster
from lightos.lab.errors import LabError
from lightos.lab.faults.plan import AddressFaults
from lightos.lab.faults.rules import CertificateFault
from lightos.lab.view import ClusterChange, NodeView

LOG = logging.getLogger(__name__)


class Service(Protocol):
    """What listens on a node's address."""

    def swallow(self) -> None:
        """Let the network lose the address."""

    def answer(self) -> None:
        """Undo `swallow`."""

    def freeze(self) -> None:
        """Stand still: take in nothing, say nothing."""

    def thaw(self) -> None:
        """Go on, with what came in meanwhile."""

    def hold_writes(self) -> None:
        """Carry out no write of a host."""

    def release_writes(self) -> None:
        """Carry out the writes that were held, and those that come."""

    async def close(self) -> None: ...


StartNode = Callable[
    [NodeView, CertificateFault | None, contextlib.AsyncExitStack], Awaitable[list[Service]]
]
"""Starts a node's services, perhaps with a bad certificate, and leaves how to close them on the
stack."""


@dataclass(frozen=True)
class _Setting:
    """What a node's services have to be started anew for."""

    node: NodeView
    certificate: CertificateFault | None


@dataclass
class _Running:
    setting: _Setting
    services: list[Service]
    stack: contextlib.AsyncExitStack
    faults: AddressFaults = field(default_factory=AddressFaults)

    def suffer(self, faults: AddressFaults) -> None:
        """Have these faults of the address, and no others, from now on."""
        before, self.faults = self.faults, faults
        for service in self.services:
            if faults.swallow != before.swallow:
                (service.swallow if faults.swallow else service.answer)()
            if faults.freeze != before.freeze:
                (service.freeze if faults.freeze else service.thaw)()
            if faults.hold_writes != before.hold_writes:
                (service.hold_writes if faults.hold_writes else service.release_writes)()


class NodeServices:
    """Starts and ends the services of nodes as they come, move and go."""

    def __init__(
        self,
        cluster: Cluster,
        changes: ChangeQueue,
        start: StartNode,
        faults_at: Callable[[str], AddressFaults],
    ) -> None:
        self._cluster = cluster
        self._changes = changes
        self._start = start
        self._faults_at = faults_at
        self._running: dict[UUID, _Running] = {}
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsubscribe: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Start every serving node. Raises LabError when one of them cannot listen."""
        for setting in self._wanted().values():
            await self._open(setting)
        self._unsubscribe = self._cluster.subscribe(self._changed)

    def _changed(self, change: ClusterChange) -> None:
        if change.nodes:
            task = asyncio.get_running_loop().create_task(self.follow())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def follow(self) -> None:
        """Make what runs agree with the cluster and with the faults of addresses."""
        async with self._turn:
            self._suffer()
            await self._follow_faults()
            wanted = self._wanted()
            for uuid, running in tuple(self._running.items()):
                if wanted.get(uuid) != running.setting:
                    await self._running.pop(uuid).stack.aclose()
            for uuid in wanted.keys() - self._running.keys():
                try:
                    await self._open(wanted[uuid])
                except (LabError, OSError) as cause:
                    LOG.error("%s cannot serve and is stopped: %s", wanted[uuid].node.name, cause)
                    await self._changes.carry_out(self._cluster.nodes.stop, uuid)
            self._suffer()

    def _suffer(self) -> None:
        for running in self._running.values():
            running.suffer(self._faults_at(running.setting.node.address))

    async def _follow_faults(self) -> None:
        """Tell the cluster which nodes do not do their part."""
        faults = {node.uuid: self._faults_at(node.address) for node in self._cluster.nodes.values()}
        await self._changes.carry_out(
            self._cluster.nodes.follow_faults,
            frozen={uuid for uuid, each in faults.items() if each.freeze},
            demoted={uuid for uuid, each in faults.items() if each.demote},
        )

    def _wanted(self) -> dict[UUID, _Setting]:
        nodes = [(node, self._faults_at(node.address)) for node in self._cluster.running_nodes()]
        return {
            node.uuid: _Setting(node, faults.certificate)
            for node, faults in nodes
            if not faults.refuse
        }

    async def _open(self, setting: _Setting) -> None:
        async with contextlib.AsyncExitStack() as stack:
            services = await self._start(setting.node, setting.certificate, stack)
            self._running[setting.node.uuid] = _Running(setting, services, stack.pop_all())

    async def close(self) -> None:
        self._unsubscribe()
        await asyncio.gather(*self._tasks)
        await asyncio.gather(*(running.stack.aclose() for running in self._running.values()))
