# SPDX-License-Identifier: Apache-2.0
"""A cluster written down literally, served by the real target over the real store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from lightos.lab.reservations.rules import Host, Reservation, ReservationCommand, decide
from lightos.lab.store import ThinStore
from lightos.lab.target import NodeServer, serve_node
from lightos.lab.throttle import Throttles
from lightos.lab.traffic import Traffic
from lightos.lab.view import (
    AnaGroup,
    AnaState,
    ClusterChange,
    NamespaceView,
    NodeView,
    RateLimits,
    ReservationChange,
)
from lightos.nvme_tcp.errors import CommandFailed

SUBSYSTEM_NQN = "nqn.2016-01.com.lightbitslabs:uuid:5c0b9f9e-3f3e-4ad1-b8d0-4d1c1b1f9a01"
HOST_NQN = "nqn.2014-08.org.nvmexpress:uuid:11111111-1111-4111-8111-111111111111"
OTHER_NQN = "nqn.2014-08.org.nvmexpress:uuid:22222222-2222-4222-8222-222222222222"
MIB = 1 << 20


@dataclass
class LiteralCluster:
    """A `ClusterView` whose state is its fields; `changed` tells the subscribers."""

    nodes: list[NodeView]
    subsystem_nqn: str = SUBSYSTEM_NQN
    serial_number: str = "5c0b9f9e3f3e4ad1"
    nvme_port: int = 0
    discovery_port: int = 0
    max_namespaces: int = 1024
    max_ana_group_id: int = 4
    discovery_generation: int = 7
    volumes: dict[int, NamespaceView] = field(default_factory=dict)
    acls: dict[int, set[str]] = field(default_factory=dict)
    states: dict[tuple[UUID, int], AnaState] = field(default_factory=dict)
    limits: dict[UUID, RateLimits] = field(default_factory=dict)
    reservations: dict[UUID, Reservation] = field(default_factory=dict)
    barred: set[str] = field(default_factory=set)
    changes: int = 1
    moved_at: dict[int, int] = field(default_factory=dict)
    listeners: list[Callable[[ClusterChange], None]] = field(default_factory=list)

    def serving_nodes(self) -> Sequence[NodeView]:
        return self.nodes

    def host_may_connect(self, host_nqn: str, host_address: str) -> bool:
        return host_nqn not in self.barred and host_address == "127.0.0.1"

    def namespaces(self, host_nqn: str, host_address: str) -> Mapping[int, NamespaceView]:
        return {n: view for n, view in self.volumes.items() if host_nqn in self.acls[n]}

    def ana_groups(self, node_uuid: UUID) -> Sequence[AnaGroup]:
        return [
            AnaGroup(
                group,
                self.ana_state(node_uuid, group),
                tuple(n for n, view in self.volumes.items() if view.ana_group_id == group),
                self.changes,
            )
            for group in range(1, self.max_ana_group_id + 1)
        ]

    def ana_state(self, node_uuid: UUID, ana_group_id: int) -> AnaState:
        return self.states.get((node_uuid, ana_group_id), AnaState.OPTIMIZED)

    def ana_change_count(self) -> int:
        return self.changes

    def ana_moved_at(self, ana_group_id: int) -> int:
        return self.moved_at.get(ana_group_id, 0)

    def rate_limits(self, volume_uuid: UUID) -> RateLimits:
        return self.limits.get(volume_uuid, RateLimits())

    def limit(self, volume_uuid: UUID, limits: RateLimits) -> None:
        self.limits[volume_uuid] = limits
        for listener in list(self.listeners):
            listener(ClusterChange(limits=True))

    def reservation(self, volume_uuid: UUID) -> Reservation | None:
        return self.reservations.get(volume_uuid)

    async def reserve(self, volume_uuid: UUID, host: Host, command: ReservationCommand) -> None:
        before = self.reservation(volume_uuid) or Reservation()
        decision = decide(before, host, command)
        if decision.status:
            raise CommandFailed(decision.status)
        self.reservations[volume_uuid] = decision.reservation
        (nsid,) = (n for n, view in self.volumes.items() if view.uuid == volume_uuid)
        told = ReservationChange(nsid, decision.notices, decision.aborted)
        for listener in list(self.listeners):
            listener(ClusterChange(reservation=told))

    def subscribe(self, listener: Callable[[ClusterChange], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def changed(self, nsids: Iterable[int] = (), *, ana: bool = False, nodes: bool = False) -> None:
        self.changes += ana
        self.discovery_generation += nodes
        for listener in list(self.listeners):
            listener(ClusterChange(frozenset(nsids), ana, nodes))


class Lab:
    """The event loop of a lab in a thread of its own, so that tests may block on sockets."""

    def __init__(self, store: ThinStore, cluster: LiteralCluster) -> None:
        self.store = store
        self.cluster = cluster
        self.throttles = Throttles(cluster)
        self.traffic = Traffic()
        self.servers: list[NodeServer] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def do(self, action: Callable[[], Any]) -> Any:
        """Run `action` on the event loop, where the cluster changes."""

        async def act() -> Any:
            return action()

        return self.run(act())

    def add_volume(
        self, nsid: int, *hosts: str, size_bytes: int = 16 * MIB, block: int = 512
    ) -> UUID:
        uuid = UUID(int=0xA0000000_0000_4000_8000_000000000000 + nsid)
        self.store.create_volume(uuid, size_bytes)

        def add() -> None:
            self.cluster.volumes[nsid] = NamespaceView(nsid, uuid, size_bytes, block, 1)
            self.cluster.acls[nsid] = set(hosts)
            self.cluster.changed([nsid])

        self.do(add)
        return uuid

    def serve(self) -> NodeServer:
        node = self.cluster.nodes[len(self.servers)]
        self.servers.append(self.run(self.serve_node(node)))
        return self.servers[-1]

    async def serve_node(self, node: NodeView) -> NodeServer:
        return await serve_node(
            self.cluster,
            self.store,
            node,
            self.throttles,
            self.traffic,
            reserve=self.cluster.reserve,
        )

    def close(self) -> None:
        for server in self.servers:
            self.run(server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
